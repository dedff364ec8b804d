"""Clips at chosen places of a video, for what is done with a trained network."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from config import Clip, Preprocessing, UserError
from pt_dataset import sampling
from pt_dataset.clip_dataset import read_views
from pt_dataset.formats.times import resampled, uneven_times
from pt_dataset.loader import started
from pt_dataset.processes.memory import fitting
from pt_dataset.processes.signals import set_up_worker
from pt_dataset.sources import read_frames
from pt_dataset.video_list import Video

TOGETHER = 200_000_000  # bytes of frames that are decoded together


class Part(NamedTuple):
    """What is read of a video at once."""

    video: Video
    spans: list[tuple[int, int]]  # frames [start, end) that the clips stand for
    clips: list[list[int]]  # their frames


def spans(num_frames: int, window: int, step: int) -> list[tuple[int, int]]:
    """[start, end) of windows every `step` frames; the last one ends where the video does.

    A video shorter than a window is one window.
    """
    last = max(num_frames - window, 0)
    starts = list(range(0, last + 1, step))
    if starts[-1] < last:
        starts.append(last)
    return [(start, min(start + window, num_frames)) for start in starts]


def spans_of_seconds(video: Video, length: int, window: float) -> list[tuple[int, int]]:
    """[start, end) of windows of that many seconds, each half a window later than the last."""
    assert video.fps is not None  # as inputs.paths.usable sees to
    times = uneven_times(video)
    if times is None:
        frames = max(round(window * video.fps), 1)
        return spans(length, frames, max(frames // 2, 1))
    num_steps = max(math.ceil(2 * times[-1] / window) - 1, 1)
    begins = [min(i * window / 2, max(times[-1] - window, 0)) for i in range(num_steps)]
    starts = np.searchsorted(times[:length], begins, side="right") - 1  # on screen by then
    ends = np.searchsorted(times[:length], np.add(begins, window), side="left")
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def clips_within(
    video: Video, clip: Clip, start: int, end: int, num_clips: int | None
) -> list[list[int]]:
    """The clips of evaluation as if frames [start, end) were all of the video."""
    part, frame_of = resampled(video, clip, start, end)
    clips = sampling.view_indices(part, clip, num_clips)
    return [[frame_of[i] for i in indices] for indices in clips]


def window_clip(video: Video, clip: Clip, start: int, end: int, window: int) -> list[int]:
    """A clip of all that happens in frames [start, end); looped where they are fewer than `window`.

    The network sees every `stride`-th frame, however many, or its segments of the window.
    """
    if clip.snippet_len:
        return clips_within(video, clip, start, end, 1)[0]
    num_frames = math.ceil(window / sampling.step(video, clip))
    part, frame_of = resampled(video, clip, start, end)
    indices = sampling.clip_from(0, len(frame_of), num_frames, sampling.step(part, clip))
    return [frame_of[i] for i in indices]


class PartViews(Dataset):
    """Index -> all views of a part, uint8 (V, T, S, S, C), or the sentence that says why not."""

    def __init__(self, parts: Sequence[Part], clip: Preprocessing, num_crops: int):
        self.parts, self.clip, self.num_crops = parts, clip, num_crops

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | str]:
        video, _, clips = self.parts[index]
        try:
            return index, read_views(video, clips, self.clip, self.num_crops)
        except UserError as error:
            return index, str(error)


def part_loader(
    parts: Sequence[Part], clip: Preprocessing, num_crops: int, workers: int, batch_size: int
) -> Iterator[tuple[int, torch.Tensor | str]]:
    """(index, views or error) of each part, one by one, in order.

    Args:
        batch_size: views that may be held, beside those of two parts, while others are read.

    Raises:
        UserError: there is no room for a part that waits.
    """
    ahead = None
    if workers and parts:
        frame = math.prod(clip.network_input()) // clip.clip_len
        view = frame * max(len(part.clips[0]) for part in parts)
        sizes = [frame * num_crops * sum(map(len, part.clips)) for part in parts]
        size = max(sizes)
        in_use = min(max(batch_size * view, size) + 2 * size, sum(sizes) - size)
        workers, ahead = fitting(workers, size, in_use)
    loader = DataLoader(
        PartViews(parts, clip, num_crops),
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_initialized(),  # else for a CPU
        worker_init_fn=set_up_worker,
        prefetch_factor=ahead,
        generator=torch.Generator(),  # nothing here is random
    )
    return started(loader)


def frames_of(video: Video) -> Iterator[np.ndarray]:
    """All frames of a video in order, uint8 (H, W, 3)."""
    start, at_once = 0, 1
    while start < video.num_frames:
        indices = list(range(start, min(start + at_once, video.num_frames)))
        found = read_frames(video.path, indices, video.num_frames)
        start, at_once = start + len(found), max(min(32, TOGETHER // found[0].nbytes), 1)
        yield from (frame.copy() for frame in found)  # which does not hold the others
        del found  # before the next ones are read
