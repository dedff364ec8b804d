"""Lists, sampling, decoding and augmentation joined: batches of uint8 clips.

Randomness is a pure function: the samplers yield (epoch, index), and all random choices of a clip
come from a generator keyed by (seed, epoch, index). The same clips come from any number of workers,
forked or spawned, and after a resume.
"""

import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from config import DATASETS, DatasetSpec, UserError
from pt_dataset import make_demo, sampling, transforms
from pt_dataset.datalist import Video, VideoList, provide_classes, read_classes, read_list
from pt_dataset.sources import exists, read_flow, read_frames


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

    def uint8_clip(self) -> tuple[int, int, int, int]:
        """The same on its way out of the loader: (T, S, S, C)."""
        channels, frames, height, width = self.network_input()
        return frames, height, width, channels

    def step(self, video: Video) -> int | Fraction:
        """Source frames from one frame of a clip to the next."""
        if self.target_fps is None:
            return self.stride
        return sampling.resampled_stride(self.stride, video.fps, self.target_fps)

    def read(self, video: Video, indices: list[int]) -> np.ndarray:
        """uint8 (T, H, W, 3) RGB, or (T, H, W, 2) flow."""
        if self.modality == "flow":
            return read_flow(video.flow_path, indices, video.num_frames)
        return read_frames(video.path, indices, video.num_frames)

    def augmented(self, clip: np.ndarray, rng: random.Random) -> np.ndarray:
        """A random crop (T, S, S, C), its colors jittered."""
        square = self.resize == "square"
        if self.crop == "corners":
            args = clip, self.crop_scales, self.crop_size, rng, square, self.antialias
            clip = transforms.corner_crop(*args)
        elif self.crop == "resized":
            args = clip, self.crop_area, self.crop_ratio, self.crop_size, rng, self.antialias
            clip = transforms.random_resized_crop(*args)
        else:
            args = clip, self.short_side, self.crop_size, rng, square, self.antialias
            clip = transforms.random_crop(*args)
        return transforms.jitter_color(clip, self.color_jitter, rng)


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


def read_dataset(name: str, data_root: str | Path, split: int = 1) -> VideoLists:
    """The lists under <data-root>/NAME, checked; the demo set is written if it is not there.

    Raises:
        UserError: a list is missing or wrong, or videos that it names are not on the disk.
    """
    folder = Path(data_root) / name
    if name == "demo" and not folder.exists():
        make_demo.write(Path(data_root))
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
    check_paths(train_list, train)
    check_paths(test_list, test)
    spec = DATASETS.get(name, DatasetSpec(title=name))
    return VideoLists(
        spec, class_names, train, test, folder, test_list, remapped_train + remapped_test
    )


def check_paths(list_path: Path, videos: VideoList, sample: int = 100) -> None:
    """Looks for a sample of the videos, so that a wrong path ends the run at its start."""
    step = max((len(videos) - 1) // (sample - 1), 1)
    missing = [video.path for video in videos[::step] if not exists(video.path)]
    if missing:
        checked = len(videos[::step])
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


class TrainClips(Dataset):
    """(epoch, index) -> one random clip, uint8 (T, S, S, C), its label and its index."""

    def __init__(
        self,
        videos: VideoList,
        shape: ClipShape,
        flipped_labels: list[int] | None,
        flip_prob: float,
        seed: int,
    ):
        self.videos, self.shape, self.seed = videos, shape, seed
        self.flipped_labels, self.flip_prob = flipped_labels, flip_prob

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        epoch, index = key
        video, shape = self.videos[index], self.shape
        rng = sampling.generator(self.seed, epoch, index)
        clip = shape.read(video, shape.train_indices(video, rng))
        clip = shape.augmented(clip, rng)
        flip = self.flipped_labels is not None and rng.random() < self.flip_prob
        label = self.flipped_labels[video.label] if flip else video.label
        return transforms.finished(clip, flip, shape.snippet_len), label, index


class ViewClips(Dataset):
    """(epoch, index) -> all views of a video, uint8 (V, T, S, S, C), its label and its index.

    T is `clip_len`; or that of the whole video, where `num_clips` is None.
    """

    def __init__(self, videos: VideoList, shape: ClipShape, num_clips: int | None, num_crops: int):
        self.videos, self.shape, self.num_clips, self.num_crops = (
            videos,
            shape,
            num_clips,
            num_crops,
        )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        _, index = key
        video, shape = self.videos[index], self.shape
        clips = shape.view_indices(video, self.num_clips)
        crops = transforms.view_crops(
            shape.read(video, [i for clip in clips for i in clip]),
            shape.short_side[0],
            shape.crop_size,
            self.num_crops,
            shape.resize == "square",
            shape.antialias,
        )
        views = [
            transforms.finished(crop, flip, shape.snippet_len).unflatten(0, (len(clips), -1))
            for crop, flip in crops
        ]
        return torch.stack(views, dim=1).flatten(0, 1), video.label, index


class EpochBatches(Sampler):
    """Yields batches of (epoch, index) of every video, shuffled by (seed, epoch) or in list order.

    `epoch`, and `start`, the batches to leave out where an epoch goes on, are set before each
    epoch.

    Args:
        batch_size: of the whole batch, of which this process takes its share; there are as many
            batches in each process, and some shares are empty.
        shard: rank of this process, and how many there are.
        drop_last: leaves out a last batch that is not full.
    """

    def __init__(
        self,
        num_videos: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ):
        self.num_videos, self.batch_size, self.shuffle = num_videos, batch_size, shuffle
        self.seed, self.drop_last, self.shard = seed, drop_last, shard
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return (self.num_videos + (0 if self.drop_last else self.batch_size - 1)) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = list(range(self.num_videos))
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        for i in range(self.start, len(self)):
            batch = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield [(self.epoch, index) for index in self.share(batch)]

    def share(self, batch: list[int]) -> list[int]:
        """This process's part; parts are equal, or differ by one.

        Where full batches have two videos for each process, there is none with a single one: batch
        norm cannot train on it. Then fewer take part in the last batch.
        """
        rank, num_processes = self.shard
        least = min(self.batch_size // num_processes, 2)
        num_parts = min(max(len(batch) // least, 1), num_processes)
        if rank >= num_parts:
            return []
        return batch[rank * len(batch) // num_parts : (rank + 1) * len(batch) // num_parts]


def train_loader(
    lists: VideoLists,
    shape: ClipShape,
    *,
    batch_size: int,
    flip_prob: float,
    seed: int,
    workers: int,
    shard: tuple[int, int] = (0, 1),
    equal_shares: bool = False,
    start_method: str | None = None,
) -> DataLoader:
    """Batches of one random clip of each training video: uint8 (N, T, S, S, C), labels, indices.

    Set `loader.batch_sampler.epoch` and `.start` before each epoch. One clip is left out where the
    last batch would hold only that one, which batch norm cannot train on; the order is random, so
    it is another one each time.

    Args:
        batch_size: of all processes of a run together.
        shard: rank of this process, and how many there are.
        equal_shares: leave out a last batch that not all processes have as many clips of.
    """
    clips = TrainClips(lists.train, shape, lists.flipped_labels(), flip_prob, seed)
    tail = len(clips) % batch_size
    drop_last = (batch_size > 1 and tail == 1) or (equal_shares and tail % shard[1] > 0)
    batches = EpochBatches(
        len(clips), batch_size, shuffle=True, seed=seed, drop_last=drop_last, shard=shard
    )
    return _loader(clips, batches, workers, start_method)


def view_loader(
    videos: VideoList,
    shape: ClipShape,
    *,
    num_clips: int | None,
    num_crops: int,
    batch_size: int,
    workers: int,
    shard: tuple[int, int] = (0, 1),
    start_method: str | None = None,
) -> DataLoader:
    """Batches of views, uint8 (N, V, T, S, S, C), in list order; N * V is about `batch_size`.

    Of several processes (`shard`) that is the size of all their shares. Whole videos (`num_clips`
    None) come one by one, since T differs.
    """
    clips = ViewClips(videos, shape, num_clips, num_crops)
    at_once = batch_size // shard[1] // (num_clips * num_crops) if num_clips else 1
    batches = EpochBatches(len(clips), max(at_once, 1) * shard[1], shard=shard)
    return _loader(clips, batches, workers, start_method)


def _loader(clips, batches, workers, start_method) -> DataLoader:
    return DataLoader(
        clips,
        batch_sampler=batches,
        collate_fn=partial(collate, clip_shape=clips.shape.uint8_clip()),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=start_method if workers else None,
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # the loader draws seeds that nobody needs: not from dropout's
        persistent_workers=workers > 0,
    )


def collate(samples: list[tuple], clip_shape: tuple[int, ...]) -> list[torch.Tensor]:
    """A batch; of an empty share one without rows."""
    if samples:
        return default_collate(samples)
    none = torch.empty(0, dtype=torch.long)
    return [torch.empty(0, *clip_shape, dtype=torch.uint8), none, none]


def ignore_signals(worker_id: int) -> None:
    """Signals that reach every process of a run are for the main one, which saves and ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_the_main_process, daemon=True).start()


def _obey_the_main_process() -> None:
    """Ends this process when it is the main one that sends SIGTERM: it closes its loaders so."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
