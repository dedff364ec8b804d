"""Lists, sampling, decoding and augmentation joined: uint8 clips, see loader.py for batches.

Randomness is a pure function: all random choices of a clip come from a generator keyed by (seed,
epoch, index).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from config import Augmentation, Clip, Preprocessing, UserError, Views
from pt_dataset import sampling, transforms
from pt_dataset.sources import BadFrame, frames
from pt_dataset.video_list import Video


class Sample(NamedTuple):
    """What a Dataset gives of one video."""

    clip: torch.Tensor | None  # None: left out
    label: int
    index: int
    fault: str | None = None  # what was wrong with the video


class Clips(Dataset, ABC):
    """(epoch, index) -> Sample.

    Args:
        on_bad_frame: "stop" with the error; "nearest": the nearest frame that can be decoded stands
            in for a bad one; "skip": a video with a bad frame in the clip, or one that cannot be
            used at all, is left out.
    """

    def __init__(self, videos: Sequence[Video], clip: Preprocessing, on_bad_frame: str = "stop"):
        self.videos, self.clip, self.on_bad_frame = videos, clip, on_bad_frame

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        return self.sample(*index)

    def sample(self, epoch: int, index: int, out: np.ndarray | None = None) -> Sample:
        """The sample; its clip is in `out` where that is given, unless something made a new one."""
        place, fault = index % len(self.videos), None  # beyond the last: other clips of the same
        video = self.videos[place]
        bad: set[int] = set()
        # each try finds one bad frame more, and the clip may then need another one that is bad, too
        while len(bad) < sampling.length(video, self.clip):
            try:
                return Sample(*self.make(video, epoch, index, bad, out), place, fault)
            except UserError as error:
                fault = fault or str(error)
                if self.on_bad_frame == "skip":
                    return Sample(None, video.label, place, fault)
                if self.on_bad_frame == "stop" or not isinstance(error, BadFrame):
                    raise
                assert error.index is not None  # which only errors of other processes lack
                bad.add(error.index)
        raise UserError(f"{video.path} has no frame that can be decoded; {fault}")

    @abstractmethod
    def make(
        self, video: Video, epoch: int, index: int, bad: set[int], out: np.ndarray | None
    ) -> tuple[torch.Tensor, int]:
        """The clip and its label, always the same, without the frames in `bad`."""

    def sample_bytes(self) -> int:
        """Of the largest clip."""
        return math.prod(self.clip.network_input())

    def without(self, bad: set[int], video: Video, indices: list[int]) -> list[int]:
        """The indices with good frames in the place of bad ones."""
        return sampling.nearest(indices, sampling.length(video, self.clip), bad) if bad else indices


class TrainClips(Clips):
    """One random clip of each video, uint8 (T, S, S, C); `flipped_labels`: see VideoLists."""

    def __init__(
        self,
        videos: Sequence[Video],
        clip: Preprocessing,
        augmentation: Augmentation,
        flipped_labels: list[int] | None,
        seed: int,
        on_bad_frame: str = "stop",
    ):
        super().__init__(videos, clip, on_bad_frame)
        self.augmentation, self.flipped_labels, self.seed = augmentation, flipped_labels, seed

    def __getitems__(
        self, keys: list[tuple[int, int]]
    ) -> tuple[torch.Tensor, list[Sample], tuple[int, int] | None]:
        """All clips of a batch, (N, T, S, S, C), the samples, whose clips are parts of it, and the
        slot that it is in, if any.

        They are decoded straight into memory that the main process can read: a copy less.
        """
        channels, *size = self.clip.network_input()
        slot = getattr(keys, "slot", None)
        batch = shared_memory(slot, len(keys), *size, channels)
        samples = []
        for key, place in zip(keys, batch, strict=True):
            sample = self.sample(*key, place.numpy())
            # an augmentation, or stacked flow, is in memory of its own
            if sample.clip is not None and sample.clip.data_ptr() != place.data_ptr():
                place.copy_(sample.clip)
            samples.append(sample)
        return batch, samples, slot

    def make(
        self, video: Video, epoch: int, index: int, bad: set[int], out: np.ndarray | None
    ) -> tuple[torch.Tensor, int]:
        augmentation, rng = self.augmentation, sampling.generator(self.seed, epoch, index)
        shown, frame_of = resampled(video, self.clip)
        indices = [frame_of[i] for i in sampling.train_indices(shown, self.clip, rng)]
        indices = self.without(bad, video, indices)
        shape = (len(indices), *frame_shape(self.clip))
        # stacked flow has other channels than its fields, which need memory of their own
        pixels = out if out is not None and out.shape == shape else np.empty(shape, np.uint8)
        crops, label = None, video.label
        for places, frame in clip_frames(video, indices, self.clip):
            if crops is None:  # the first frame tells the size of all
                height, width, _ = frame.shape
                crops = transforms.training_crop(height, width, self.clip, augmentation, rng)
                if self.flipped_labels is not None and rng.random() < augmentation.flip_prob:
                    crops, label = replace(crops, mirrored=(True,)), self.flipped_labels[label]
            first, *others = places
            crops(frame, [pixels[first]])
            pixels[others] = pixels[first]
        seen = as_seen(torch.from_numpy(pixels), self.clip)
        if augmentation.changes_pixels:
            from pt_dataset.augmentations.of_clips import changed

            seen = changed(seen, augmentation, self.flipped_labels, rng)
        for augment in transforms.CLIP_AUGMENTATIONS:
            seen = augment(seen, augmentation, rng)
        return seen, label


class ViewClips(Clips):
    """All views of each video, uint8 (V, T, S, S, C); nothing of them depends on the epoch.

    T is `clip_len`; or that of the whole video, where views.clips is None.

    Args:
        order: of the frames of each clip, one of inputs.orders.ORDERS.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        clip: Preprocessing,
        views: Views,
        on_bad_frame: str = "stop",
        order: str = "normal",
    ):
        super().__init__(videos, clip, on_bad_frame)
        self.views, self.order = views, order

    def make(
        self, video: Video, epoch: int, index: int, bad: set[int], out: np.ndarray | None
    ) -> tuple[torch.Tensor, int]:
        shown, frame_of = resampled(video, self.clip)
        clips = sampling.view_indices(shown, self.clip, self.views.clips)
        clips = [[frame_of[i] for i in indices] for indices in clips]
        if self.order != "normal":
            from pt_dataset.inputs.orders import reordered_clips

            clips = reordered_clips(clips, self.order, video)
        clips = [self.without(bad, video, indices) for indices in clips]
        return read_views(video, clips, self.clip, self.views.crops), video.label

    def sample_bytes(self) -> int:
        if self.views.clips:
            num_views, shape = self.views.of_video(self.clip)
            return num_views * math.prod(shape)
        clips = (sampling.view_indices(video, self.clip, None) for video in self.videos)
        longest = max((len(indices) for (indices,) in clips), default=0)
        return self.views.crops * longest * super().sample_bytes() // self.clip.clip_len


def read_views(
    video: Video, clips: list[list[int]], clip: Preprocessing, num_crops: int
) -> torch.Tensor:
    """Clips of a video as evaluation sees them, uint8 (V, T, S, S, C); V: the crops of each clip.

    Args:
        clips: the frames of each, equally many; one that is in several is decoded once.

    Raises:
        UserError: see sources.frames.
    """
    num_clips, num_frames = len(clips), len(clips[0])
    indices = [index for frames_of_clip in clips for index in frames_of_clip]
    views = np.empty((num_clips, num_crops, num_frames, *frame_shape(clip)), np.uint8)
    crops = None
    for places, frame in clip_frames(video, indices, clip):
        height, width, _ = frame.shape
        crops = crops or transforms.view_crops(height, width, clip, num_crops)
        first, *others = (views[place // num_frames, :, place % num_frames] for place in places)
        crops(frame, first)
        for view in others:
            view[:] = first
    return as_seen(torch.from_numpy(views).flatten(0, 1), clip)


def resampled(video: Video, clip: Clip) -> tuple[Video, Sequence[int]]:
    """The video to sample clips from, and which frame of the true one each of its frames is."""
    if clip.target_fps is None:
        return video, range(video.num_frames)
    from pt_dataset.formats import times  # here, since few trainings choose a rate

    return times.resampled(video, clip)


def clip_frames(
    video: Video, indices: list[int], clip: Preprocessing
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Frames, or fields of flow, one after another; see sources.frames."""
    if clip.modality != "flow":
        return frames(video.path, indices, video.num_frames)
    from pt_dataset.formats.flow import flow_fields  # here, since most networks see RGB

    assert video.flow_path is not None  # as video_lists.check_clips and inputs.paths.usable see to
    return flow_fields(video.flow_path, indices, video.num_frames)


def frame_shape(clip: Preprocessing) -> tuple[int, int, int]:
    """(S, S, C) of a frame, or of a field of flow, after the crop."""
    return clip.crop_size, clip.crop_size, 2 if clip.modality == "flow" else 3


def as_seen(pixels: torch.Tensor, clip: Preprocessing) -> torch.Tensor:
    """Cut frames (..., T, S, S, C) as the network sees them: flow of segments is stacked."""
    if clip.modality == "flow" and clip.snippet_len:
        return transforms.flow_channels(pixels, clip.snippet_len)
    return pixels


def shared_memory(slot: tuple[int, int] | None, *shape: int) -> torch.Tensor:
    """uint8, not initialized: a slot; or in a loader process what the main one gets without a
    copy."""
    if slot:
        from pt_dataset.processes.slots import room

        return room(slot, shape)
    if get_worker_info() is None or 0 in shape:
        return torch.empty(shape, dtype=torch.uint8)
    # as torch's own default_collate allocates it
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
