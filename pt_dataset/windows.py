"""Clips at chosen places of a video, for what is done with a trained network."""

import math
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from config import UserError
from pt_dataset import sampling
from pt_dataset.clip_dataset import ClipShape, ViewClips
from pt_dataset.datalist import provide_classes, read_classes, read_list
from pt_dataset.listing.find_videos import find_flow, find_videos, measure_videos
from pt_dataset.loader import set_up_worker
from pt_dataset.sources import (
    VIDEO_NAME,
    count_frames,
    exists,
    frame_rate,
    read_frames,
    split_archive,
)
from pt_dataset.video_list import Video

ORDERS = ("normal", "reversed", "shuffled", "frozen")


class Part(NamedTuple):
    """What is read of a video at once."""

    video: Video
    spans: list[tuple[int, int]]  # frames [start, end) that the clips stand for
    clips: list[list[int]]  # their frames


@dataclass(frozen=True)
class GivenClips(ClipShape):
    """Evaluation sees these clips, not evenly spaced ones."""

    clips: Sequence[list[int]] = ()

    def view_indices(self, video: Video, num_clips: int | None) -> list[list[int]]:
        return list(self.clips)


@dataclass(frozen=True)
class OrderedClips(ClipShape):
    """The clips of evaluation with their frames in another order, one of ORDERS."""

    order: str = "normal"

    def view_indices(self, video: Video, num_clips: int | None) -> list[list[int]]:
        # by the name: the same at each call and wherever the videos are
        rng = random.Random(Path(video.path).name)
        return [reordered(clip, self.order, rng) for clip in super().view_indices(video, num_clips)]


def reordered(clip: list[int], order: str, rng: random.Random) -> list[int]:
    """The frames of a clip played backwards, in random order, or all of them the middle one."""
    if order == "reversed":
        return clip[::-1]
    if order == "shuffled":
        return rng.sample(clip, len(clip))
    if order == "frozen":
        return [clip[len(clip) // 2]] * len(clip)
    return clip


def spans(num_frames: int, window: int, step: int) -> list[tuple[int, int]]:
    """[start, end) of windows every `step` frames; the last one ends where the video does.

    A video shorter than a window is one window.
    """
    last = max(num_frames - window, 0)
    starts = list(range(0, last + 1, step))
    if starts[-1] < last:
        starts.append(last)
    return [(start, min(start + window, num_frames)) for start in starts]


def clips_within(
    shape: ClipShape, video: Video, start: int, end: int, num_clips: int | None
) -> list[list[int]]:
    """The clips of evaluation as if frames [start, end) were all of the video."""
    part = video._replace(num_frames=end - start)
    return [[start + i for i in clip] for clip in shape.view_indices(part, num_clips)]


def window_clip(shape: ClipShape, video: Video, start: int, end: int, window: int) -> list[int]:
    """A clip of all that happens in frames [start, end); looped where they are fewer than `window`.

    The network sees every `stride`-th frame, however many, or its segments of the window.
    """
    if shape.snippet_len:
        return clips_within(shape, video, start, end, 1)[0]
    step = shape.step(video)
    num_frames = math.ceil(window / step)
    return [start + i for i in sampling.clip_from(0, end - start, num_frames, step)]


class PartViews(Dataset):
    """Index -> all views of a part, uint8 (V, T, S, S, C), or the sentence that says why not."""

    def __init__(self, parts: Sequence[Part], shape: ClipShape, num_crops: int):
        self.parts, self.shape, self.num_crops = parts, shape, num_crops

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | str]:
        video, _, clips = self.parts[index]
        shape = GivenClips(**vars(self.shape) | {"clips": clips})
        try:
            return index, ViewClips([video], shape, len(clips), self.num_crops)[0, 0][0]
        except UserError as error:
            return index, str(error)


def part_loader(
    parts: Sequence[Part], shape: ClipShape, num_crops: int, workers: int
) -> DataLoader:
    """(index, views or error) of each part, one by one, in order."""
    return DataLoader(
        PartViews(parts, shape, num_crops),
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=set_up_worker,
        generator=torch.Generator(),  # nothing here is random
    )


def videos_at(
    paths: Iterable[str], modality: str = "rgb", fps: float | None = None
) -> tuple[list[Video], list[tuple[str, str]]]:
    """The videos that are meant by paths: video files, frame folders, zips, folders of them, lists.

    Args:
        modality: of "flow", optical flow is looked for beside the frames, as make_json.py does.
        fps: frames a second of those that do not say it themselves.

    Returns:
        Videos without label and class, and (path, why) of what cannot be used.
    """
    videos, problems = {}, []  # a video that is named twice is one
    for path in paths:
        try:
            found, reasons = _videos_at(path, modality)
        except (UserError, OSError) as error:
            found, reasons = [], [str(error)]
        videos |= {video.path: video._replace(fps=video.fps or fps) for video in found}
        problems += [(path, reason) for reason in reasons]
    return list(videos.values()), problems


def _videos_at(path: str, modality: str) -> tuple[list[Video], list[str]]:
    if not exists(path):
        raise UserError(f"{path}: there is no such file or folder")
    if path.endswith(".json"):
        return list(read_list(Path(path), read_classes(provide_classes(Path(path).parent)))[0]), []
    is_folder = Path(path).is_dir()
    if is_folder or Path(path).suffix.lower() == ".zip":
        found = find_videos(Path(path))
        flow_paths = find_flow(Path(path), found, None) if modality == "flow" else {}
        by_name, reasons = measure_videos(found, sorted(found.paths), flow_paths)
        reasons = found.problems + reasons
        if not by_name and not reasons:
            reasons = [f"{path}: no video in this folder"]
        return [by_name[name] for name in sorted(by_name)], reasons
    if not VIDEO_NAME.fullmatch(Path(path).name) and not split_archive(path):
        raise UserError(f"{path} is no video file by its ending, no folder, zip or list")
    return [Video(path, -1, "", count_frames(path), frame_rate(path))], []


def usable(
    videos: Iterable[Video], shape: ClipShape, timed: bool = False
) -> tuple[list[Video], list[tuple[str, str]]]:
    """The videos of which clips of this shape can be made, and (path, why) of the others.

    Args:
        timed: is the frame rate needed in any case?
    """
    good, problems = [], []
    for video in videos:
        if shape.modality == "flow" and (video.flow_path is None or video.num_frames < 2):
            why = "the network sees optical flow; compute it with pt_dataset/extract_flow.py"
        elif (timed or shape.target_fps) and not video.fps:
            why = "frames do not tell their rate; give it with --fps"
        else:
            good.append(video)
            continue
        problems.append((video.path, f"{video.path}: {why}"))
    return good, problems


def name_of(video: Video, roots: Iterable[str]) -> str:
    """A name for what is written of a video: its path below the one of `roots` it was found in.

    That of a video elsewhere, which a list may name, is its whole path.
    """
    path = video.path
    for root in roots:
        folder = root if os.path.isdir(root) else os.path.dirname(root)
        below = os.path.relpath(path, folder or ".")
        if below == ".":
            below = os.path.basename(os.path.abspath(path))
        if not below.startswith(".."):
            break
    else:
        below = os.path.abspath(path).lstrip("/")
    return os.path.splitext(below)[0] if VIDEO_NAME.fullmatch(os.path.basename(below)) else below


def frames_of(video: Video, at_once: int = 32) -> Iterator[np.ndarray]:
    """All frames of a video in order, uint8 (H, W, 3)."""
    for start in range(0, video.num_frames, at_once):
        indices = list(range(start, min(start + at_once, video.num_frames)))
        yield from read_frames(video.path, indices, video.num_frames)
