"""Lists, sampling, decoding and augmentation joined: uint8 clips, see loader.py for batches.

Randomness is a pure function: all random choices of a clip come from a generator keyed by (seed,
epoch, index).
"""

import functools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from config import DATASETS, DatasetSpec, UserError
from pt_dataset import make_demo, sampling, transforms
from pt_dataset.datalist import provide_classes, read_classes, read_list
from pt_dataset.sources import BadFrame, exists, read_crops, read_flow_crops
from pt_dataset.transforms import Crops
from pt_dataset.video_list import Video, VideoList


@dataclass(frozen=True)
class ClipShape:
    """What a clip is and how it is augmented: the part of a recipe that the data path needs.

    The fields are those of config.Preprocessing and config.Recipe.
    """

    clip_len: int
    stride: int
    short_side: tuple[int, int]
    crop_size: int
    snippet_len: int = 0
    target_fps: float | None = None
    modality: str = "rgb"
    resize: str = "short_side"
    antialias: bool = True
    # training only
    crop: str = "random"
    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def train_indices(self, video: Video, rng: random.Random) -> list[int]:
        """The frames, or fields of flow, of one random clip."""
        length = self.length(video)
        if self.snippet_len:
            num_segments = self.clip_len // self.snippet_len
            return sampling.random_segments(length, num_segments, self.snippet_len, rng)
        return sampling.random_clip(length, self.clip_len, self.step(video), rng)

    def view_indices(self, video: Video, num_clips: int | None) -> list[list[int]]:
        """The frames of the clips of evaluation; None: one clip, the whole video.

        Of segments, one clip with `num_clips` of them, or if that is 1, as many as in training.
        """
        length = self.length(video)
        if not self.snippet_len:
            if num_clips is None:
                return [sampling.whole_video(length, self.clip_len, self.step(video))]
            return sampling.spaced_clips(length, self.clip_len, self.step(video), num_clips)
        if num_clips == 1:
            num_segments = self.clip_len // self.snippet_len
            return [sampling.center_segments(length, num_segments, self.snippet_len)]
        return [sampling.test_segments(length, num_clips, self.snippet_len)]

    def length(self, video: Video) -> int:
        """How many frames a video has, or how many fields of flow lie between them."""
        return video.num_frames - 1 if self.modality == "flow" else video.num_frames

    def network_input(self) -> tuple[int, int, int, int]:
        """The shape (C, T, S, S) of a clip on its way into the network."""
        channels, frames = 2 if self.modality == "flow" else 3, self.clip_len
        if self.modality == "flow" and self.snippet_len:
            channels, frames = channels * self.snippet_len, frames // self.snippet_len
        return channels, frames, self.crop_size, self.crop_size

    def step(self, video: Video) -> int | Fraction:
        """Source frames from one frame of a clip to the next."""
        if self.target_fps is None:
            return self.stride
        return sampling.resampled_stride(self.stride, video.fps, self.target_fps)

    def read(
        self,
        video: Video,
        indices: list[int],
        crops_for: Callable[[int, int], Crops],
        out: np.ndarray | None = None,
    ) -> list[torch.Tensor]:
        """The clips, uint8 (T, S, S, C), that crops make of frames.

        Args:
            crops_for: height and width of a frame -> its crops; asked once.
            out: (K, T, S, S, 3), where RGB goes, if not into new memory.
        """
        if self.modality != "flow":
            clips = read_crops(video.path, indices, video.num_frames, crops_for, out)
            return list(torch.from_numpy(clips))
        mirrored = ()

        @functools.cache  # for u, and the same for v
        def noting(height: int, width: int) -> Crops:
            nonlocal mirrored
            crops = crops_for(height, width)
            mirrored = crops.mirrored
            return crops

        fields = read_flow_crops(video.flow_path, indices, video.num_frames, noting)
        pairs = zip(fields, mirrored, strict=True)
        return [transforms.flow_channels(*pair, self.snippet_len) for pair in pairs]

    def random_crop(self, height: int, width: int, rng: random.Random) -> Crops:
        """The crop of one clip in training."""
        square, frame = self.resize == "square", (height, width)
        if self.crop == "corners":
            args = self.crop_scales, self.crop_size, rng, square, self.antialias
            return transforms.corner_crop(*frame, *args)
        if self.crop == "resized":
            args = self.crop_area, self.crop_ratio, self.crop_size, rng, self.antialias
            return transforms.random_resized_crop(*frame, *args)
        args = self.short_side, self.crop_size, rng, square, self.antialias
        return transforms.random_crop(*frame, *args)

    def view_crops(self, height: int, width: int, num_crops: int) -> Crops:
        """The crops of evaluation, which always resizes to the same side."""
        square = self.resize == "square"
        args = self.short_side[0], self.crop_size, num_crops, square, self.antialias
        return transforms.view_crops(height, width, *args)


@dataclass(frozen=True)
class VideoLists:
    """One split of a data set."""

    spec: DatasetSpec
    class_names: list[str]
    train: VideoList
    test: VideoList
    folder: Path
    test_list: Path
    num_remapped: int  # entries whose label disagreed with their class name

    @property
    def train_list(self) -> Path:
        return self.test_list.with_name(self.test_list.name.replace("test", "train"))

    def flipped_labels(self) -> list[int] | None:
        """The label of a mirrored video by its label; None where mirroring is not allowed."""
        if not self.spec.flips:
            return None
        swapped = (self.spec.flip_swaps.get(name, name) for name in self.class_names)
        return [self.class_names.index(name) for name in swapped]


def read_dataset(
    name: str, data_root: str | Path, split: int = 1, some_missing: bool = False
) -> VideoLists:
    """The lists under <data-root>/NAME, checked; the demo set is written if it is not there.

    Args:
        some_missing: it is all right if some of the videos are not on the disk.

    Raises:
        UserError: a list is missing or wrong, or videos that it names are not on the disk.
    """
    folder = Path(data_root) / name
    if name == "demo" and not folder.exists():
        make_demo.write_demo(Path(data_root))
    train_list, test_list = (folder / f"{part}list{split:02d}.json" for part in ("train", "test"))
    for path in (train_list, test_list):
        if not path.exists() and name in DATASETS:
            raise UserError(
                f"no list {path}; python pt_dataset/make_json.py {name} FRAMES makes it from the "
                "videos or frames in the folder FRAMES, see videos_dataset/README.md"
            )
        if not path.exists():
            raise UserError(
                f"no list {path}; make one from your videos in three commands: "
                "python pt_dataset/extract_frames.py VIDEOS FRAMES, "
                f"python pt_dataset/make_json.py folder {name} FRAMES, python main.py --arch i3d "
                f"--dataset {name}"
            )
    class_names = read_classes(provide_classes(folder))
    train, remapped_train = read_list(train_list, class_names)
    test, remapped_test = read_list(test_list, class_names)
    check_paths(train_list, train, some_missing)
    check_paths(test_list, test, some_missing)
    spec = DATASETS.get(name, DatasetSpec(title=name))
    return VideoLists(
        spec, class_names, train, test, folder, test_list, remapped_train + remapped_test
    )


def check_paths(list_path: Path, videos: VideoList, some_missing: bool, sample: int = 100) -> None:
    """Looks for a sample of the videos, so that a wrong path ends the run at its start."""
    step = max((len(videos) - 1) // (sample - 1), 1)
    missing = [video.path for video in videos[::step] if not exists(video.path)]
    checked = len(videos[::step])
    if len(missing) == checked or missing and not some_missing:
        raise UserError(
            f"{list_path}: {len(missing)} of {checked} videos looked for do not exist, the first "
            f"is {missing[0]}; "
            "move the data there or write the list again with pt_dataset/make_json.py"
        )


def check_clips(lists: VideoLists, shape: ClipShape, num_crops: int = 1) -> None:
    """Looks whether the lists say all that clips of this shape need, before the first step.

    Raises:
        UserError: there is no optical flow, the frame rate is not known, or the mirrored ones of
            ten crops would show other classes.
    """
    if num_crops == 10 and lists.flipped_labels() != list(range(len(lists.class_names))):
        raise UserError(
            f"{lists.folder}: ten crops of a video mirror it, which changes labels of this data "
            "set; take --views with 1 or 3 crops"
        )
    num_videos = len(lists.train) + len(lists.test)
    if shape.modality == "flow":
        videos = chain(lists.train, lists.test)
        bad = [video.path for video in videos if video.flow_path is None or video.num_frames < 2]
        if bad:
            raise UserError(
                f"{lists.folder}: --modality flow needs the optical flow ('flow_path', of at least "
                f"two frames), which {len(bad)} of {num_videos} videos do not have, the first is "
                f"{bad[0]}; write the lists again with the flow, or train on --modality rgb"
            )
    if shape.target_fps is not None:
        videos = chain(lists.train, lists.test)
        bad = [video.path for video in videos if not video.fps]
        if bad:
            raise UserError(
                f"{lists.folder}: --target-fps needs the frame rate ('fps'), which the lists do "
                f"not say of {len(bad)} of {num_videos} videos, the first is {bad[0]}; write the "
                "lists again from video files, or choose a --stride instead"
            )


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

    def __init__(self, videos: Sequence[Video], shape: ClipShape, on_bad_frame: str = "stop"):
        self.videos, self.shape, self.on_bad_frame = videos, shape, on_bad_frame

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.sample(*key)

    def sample(self, epoch: int, index: int, out: np.ndarray | None = None) -> Sample:
        """The sample; its clip is in `out` where that is given and its frames are RGB."""
        video = self.videos[index]
        bad, fault = set(), None
        while len(bad) < self.shape.length(video):
            try:
                return Sample(*self.make(video, epoch, index, bad, out), index, fault)
            except UserError as error:
                fault = fault or str(error)
                if self.on_bad_frame == "skip":
                    return Sample(None, video.label, index, fault)
                if self.on_bad_frame == "stop" or not isinstance(error, BadFrame):
                    raise
                bad.add(error.index)
        raise UserError(f"{video.path} has no frame that can be decoded; {fault}")

    @abstractmethod
    def make(
        self, video: Video, epoch: int, index: int, bad: set[int], out: np.ndarray | None
    ) -> tuple[torch.Tensor, int]:
        """The clip and its label, always the same, without the frames in `bad`."""

    def without(self, bad: set[int], video: Video, indices: list[int]) -> list[int]:
        """The indices with good frames in the place of bad ones."""
        return sampling.nearest(indices, self.shape.length(video), bad) if bad else indices


class TrainClips(Clips):
    """One random clip of each video, uint8 (T, S, S, C)."""

    def __init__(
        self,
        videos: Sequence[Video],
        shape: ClipShape,
        flipped_labels: list[int] | None,
        flip_prob: float,
        seed: int,
        on_bad_frame: str = "stop",
    ):
        super().__init__(videos, shape, on_bad_frame)
        self.flipped_labels, self.flip_prob, self.seed = flipped_labels, flip_prob, seed

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[torch.Tensor, list[Sample]]:
        """All clips of a batch, (N, T, S, S, C), and the samples, whose clips are parts of it.

        They are decoded straight into memory that the main process can read: a copy less.
        """
        channels, *frames = self.shape.network_input()
        batch = shared_memory(len(keys), *frames, channels)
        samples = []
        for key, place in zip(keys, batch, strict=True):
            sample = self.sample(*key, place[None].numpy())
            if sample.clip is not None and sample.clip.data_ptr() != place.data_ptr():
                place.copy_(sample.clip)
            samples.append(sample)
        return batch, samples

    def make(
        self, video: Video, epoch: int, index: int, bad: set[int], out: np.ndarray | None
    ) -> tuple[torch.Tensor, int]:
        shape, flip = self.shape, False
        rng = sampling.generator(self.seed, epoch, index)
        indices = self.without(bad, video, shape.train_indices(video, rng))

        def random_crop(height: int, width: int) -> Crops:
            nonlocal flip
            crops = shape.random_crop(height, width, rng)
            flip = self.flipped_labels is not None and rng.random() < self.flip_prob
            return replace(crops, mirrored=(flip,))

        (clip,) = shape.read(video, indices, random_crop, out)
        clip = transforms.jitter_color(clip, shape.color_jitter, rng)
        return clip, self.flipped_labels[video.label] if flip else video.label


def shared_memory(*shape: int) -> torch.Tensor:
    """uint8, not initialized; in a loader process such that the main one gets it without a copy."""
    if get_worker_info() is None or 0 in shape:
        return torch.empty(shape, dtype=torch.uint8)
    # as torch's own default_collate allocates it
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


class ViewClips(Clips):
    """All views of each video, uint8 (V, T, S, S, C); nothing of them depends on the epoch.

    T is `clip_len`; or that of the whole video, where `num_clips` is None.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        shape: ClipShape,
        num_clips: int | None,
        num_crops: int,
        on_bad_frame: str = "stop",
    ):
        super().__init__(videos, shape, on_bad_frame)
        self.num_clips, self.num_crops = num_clips, num_crops

    def make(
        self, video: Video, epoch: int, index: int, bad: set[int], out: np.ndarray | None
    ) -> tuple[torch.Tensor, int]:
        shape = self.shape
        clips = shape.view_indices(video, self.num_clips)
        indices = self.without(bad, video, [i for clip in clips for i in clip])
        view_crops = functools.partial(shape.view_crops, num_crops=self.num_crops)
        views = [
            clip.unflatten(0, (len(clips), -1)) for clip in shape.read(video, indices, view_crops)
        ]
        return torch.stack(views, dim=1).flatten(0, 1), video.label
