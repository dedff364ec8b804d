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
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from config import DATASETS, DatasetSpec, UserError
from pt_dataset import make_demo, sampling, transforms
from pt_dataset.datalist import Video, read_classes, read_list
from pt_dataset.sources import read_frames


@dataclass(frozen=True)
class ClipShape:
    """What a clip is: the part of a recipe that the data path needs."""

    clip_len: int
    stride: int
    short_side: tuple[int, int]
    crop_size: int
    snippet_len: int = 0  # see config.Preprocessing
    resize: str = "short_side"  # or "square", see config.Preprocessing
    antialias: bool = True

    def train_indices(self, num_frames: int, rng: random.Random) -> list[int]:
        """The frames of one random clip."""
        if self.snippet_len:
            num_segments = self.clip_len // self.snippet_len
            return sampling.random_segments(num_frames, num_segments, self.snippet_len, rng)
        return sampling.random_clip(num_frames, self.clip_len, self.stride, rng)

    def view_indices(self, num_frames: int, num_clips: int) -> list[list[int]]:
        """The frames of the clips of evaluation; of segments, one clip with so many of them."""
        if not self.snippet_len:
            return sampling.spaced_clips(num_frames, self.clip_len, self.stride, num_clips)
        if num_clips == 1:
            num_segments = self.clip_len // self.snippet_len
            return [sampling.center_segments(num_frames, num_segments, self.snippet_len)]
        return [sampling.test_segments(num_frames, num_clips, self.snippet_len)]


@dataclass(frozen=True)
class VideoLists:
    """One split of a data set."""

    spec: DatasetSpec
    class_names: list[str]
    train: list[Video]
    test: list[Video]
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
        if not path.exists():
            raise UserError(
                f"no list {path}; make one from your videos in three commands: "
                "python pt_dataset/extract_frames.py VIDEOS FRAMES, "
                f"python pt_dataset/make_json.py folder {name} FRAMES, python main.py --arch i3d "
                f"--dataset {name}"
            )
    class_names = read_classes(folder / "classes.txt")
    train, remapped_train = read_list(train_list, class_names)
    test, remapped_test = read_list(test_list, class_names)
    check_paths(train_list, train)
    check_paths(test_list, test)
    spec = DATASETS.get(name, DatasetSpec(title=name))
    return VideoLists(
        spec, class_names, train, test, folder, test_list, remapped_train + remapped_test
    )


def check_paths(list_path: Path, videos: list[Video], sample: int = 100) -> None:
    """Looks for a sample of the videos, so that a wrong path ends the run at its start."""
    step = max((len(videos) - 1) // (sample - 1), 1)
    missing = [video.path for video in videos[::step] if not os.path.exists(video.path)]
    if missing:
        checked = len(videos[::step])
        raise UserError(
            f"{list_path}: {len(missing)} of {checked} videos looked for do not exist, the first "
            f"is {missing[0]}; "
            "move the data there or write the list again with pt_dataset/make_json.py"
        )


class TrainClips(Dataset):
    """(epoch, index) -> one random clip, uint8 (T, S, S, 3), its label and its index."""

    def __init__(
        self,
        videos: list[Video],
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
        indices = shape.train_indices(video.num_frames, rng)
        clip = read_frames(video.path, indices, video.num_frames)
        clip = transforms.random_crop(
            clip, shape.short_side, shape.crop_size, rng, shape.resize == "square", shape.antialias
        )
        label = video.label
        if self.flipped_labels is not None and rng.random() < self.flip_prob:
            clip, label = clip[:, :, ::-1].copy(), self.flipped_labels[label]
        return torch.from_numpy(clip), label, index


class ViewClips(Dataset):
    """(epoch, index) -> all views of a video, uint8 (V, T, S, S, 3), its label and its index."""

    def __init__(self, videos: list[Video], shape: ClipShape, num_clips: int, num_crops: int):
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
        clips = shape.view_indices(video.num_frames, self.num_clips)
        frames = read_frames(video.path, [i for clip in clips for i in clip], video.num_frames)
        crops = transforms.view_crops(
            frames,
            shape.short_side[0],
            shape.crop_size,
            self.num_crops,
            shape.resize == "square",
            shape.antialias,
        )
        views = [torch.from_numpy(crop).unflatten(0, (len(clips), -1)) for crop in crops]
        return torch.stack(views, dim=1).flatten(0, 1), video.label, index


class EpochSampler(Sampler):
    """Yields (epoch, index) for every video, shuffled by (seed, epoch) or in list order.

    `epoch`, and `start`, the videos to leave out where an epoch goes on, are set before each epoch.
    """

    def __init__(self, num_videos: int, shuffle: bool, seed: int):
        self.num_videos, self.shuffle, self.seed = num_videos, shuffle, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.num_videos

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = list(range(self.num_videos))
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        return ((self.epoch, index) for index in order[self.start :])


def train_loader(
    lists: VideoLists,
    shape: ClipShape,
    *,
    batch_size: int,
    flip_prob: float,
    seed: int,
    workers: int,
    start_method: str | None = None,
) -> DataLoader:
    """Batches of one random clip of each training video: uint8 (N, T, S, S, 3), labels, indices.

    Set `loader.sampler.epoch` and `.start` before each epoch. One clip is left out where the last
    batch would hold only that one, which batch norm cannot train on; the order is random, so it is
    another one each time.
    """
    clips = TrainClips(lists.train, shape, lists.flipped_labels(), flip_prob, seed)
    sampler = EpochSampler(len(clips), shuffle=True, seed=seed)
    lone_tail = batch_size > 1 and len(clips) % batch_size == 1
    return _loader(clips, sampler, batch_size, workers, start_method, drop_last=lone_tail)


def view_loader(
    videos: list[Video],
    shape: ClipShape,
    *,
    num_clips: int,
    num_crops: int,
    batch_size: int,
    workers: int,
    start_method: str | None = None,
) -> DataLoader:
    """Batches of views, uint8 (N, V, T, S, S, 3), in list order; N * V is about `batch_size`."""
    clips = ViewClips(videos, shape, num_clips, num_crops)
    batch_size = max(batch_size // (num_clips * num_crops), 1)
    return _loader(
        clips, EpochSampler(len(clips), shuffle=False, seed=0), batch_size, workers, start_method
    )


def _loader(clips, sampler, batch_size, workers, start_method, drop_last=False) -> DataLoader:
    return DataLoader(
        clips,
        batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=start_method if workers else None,
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # the loader draws seeds that nobody needs: not from dropout's
        persistent_workers=workers > 0,
    )


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
