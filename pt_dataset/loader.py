"""Batches of uint8 clips from processes that read ahead.

The samplers yield (epoch, index), and nothing else decides over a clip: the same ones come from any
number of workers, forked or spawned, and after a resume.
"""

import gc
import logging
import math
import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from config import UserError
from pt_dataset.clip_dataset import Clips, ClipShape, Sample, TrainClips, VideoLists, ViewClips
from pt_dataset.faults import Faults
from pt_dataset.sources import is_video_file
from pt_dataset.video_list import Video

AHEAD = 2  # batches that each process may hold
MEMORY_SHARE = 0.25  # of the free memory, for batches that wait
SHM = Path("/dev/shm")  # where Linux keeps them; in containers it may be as small as 64 MB
SHM_SHARE = 0.5  # the rest is for the batch in use, and for other programs
log = logging.getLogger("video")


class Batch(NamedTuple):
    """What a loader yields; of several processes each has its share, which may be empty."""

    clips: torch.Tensor  # uint8 (N, T, S, S, C); views (N, V, T, S, S, C)
    labels: torch.Tensor  # (N,)
    indices: torch.Tensor  # (N,), the places of the videos in their list
    faults: dict[int, str]  # index of a video -> what was wrong with it, see pt_dataset/faults.py


class EpochBatches(Sampler):
    """Yields batches of (epoch, index) of every video, shuffled by (seed, epoch) or in list order.

    A DataLoader keeps its processes only together with its sampler, so that one sampler serves all
    epochs: Loader.epoch sets `epoch`, and `start`, the batches to leave out where one goes on.

    Args:
        batch_size: of the whole batch, of which this process takes its share; there are as many
            batches in each process, and some shares are empty.
        shard: rank of this process, and how many there are.
        drop_last: leaves out a last batch that is not full.
        equal_shares: leaves it out where not all processes would have as many videos of it.
    """

    def __init__(
        self,
        num_videos: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        equal_shares: bool = False,
        shard: tuple[int, int] = (0, 1),
    ):
        self.num_videos, self.batch_size, self.shuffle = num_videos, batch_size, shuffle
        self.seed, self.shard = seed, shard
        self.drop_last = drop_last or (equal_shares and num_videos % batch_size % shard[1] > 0)
        # a batch with two videos for each process leaves none with a single one, see `share`
        self.least = 1 if equal_shares else min(batch_size // shard[1], 2)
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
        num_parts = min(max(len(batch) // self.least, 1), num_processes)
        if rank >= num_parts:
            return []
        return batch[rank * len(batch) // num_parts : (rank + 1) * len(batch) // num_parts]


class Loader:
    """The batches of any epoch, from processes that live as long as it does.

    Args:
        clips: the data set.
        sampler: which of them make a batch.
        name: of the list, for messages.
        max_bad_share: of the videos that may have a fault in one epoch.
        training: a batch without clips counts as a step, and one with a single clip left has none,
            since batch norm cannot train on it. Batches without clips come in evaluation, too: the
            processes of a run have equally many.
        batch_bytes: of the largest batch.

    Raises:
        UserError: there is no room for a batch that waits.
    """

    def __init__(
        self,
        clips: Clips,
        sampler: EpochBatches,
        name: str,
        max_bad_share: float,
        *,
        training: bool,
        workers: int,
        batch_bytes: int,
        start_method: str | None,
    ):
        self.clips, self.sampler, self.name = clips, sampler, name
        self.max_bad_share, self.training = max_bad_share, training
        if workers:
            workers, ahead = fitting(workers, batch_bytes)
        self.batches = DataLoader(
            clips,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=start_method if workers else None,
            worker_init_fn=set_up_worker,
            generator=torch.Generator(),  # it draws seeds that nobody needs: not from dropout's
            prefetch_factor=ahead if workers else None,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch (from 0) without the first `start`, where it goes on.

        It may be left before its end; a loader yields one epoch at a time.
        """
        self.sampler.epoch, self.sampler.start = epoch, start
        for batch in self.batches:
            if self.training and len(batch.labels) == 1 < self.sampler.least:
                batch = Batch(batch.clips[:0], batch.labels[:0], batch.indices[:0], batch.faults)
            yield batch

    def new_faults(self) -> Faults:
        """None yet, of an epoch of this loader."""
        policy = self.clips.on_bad_frame
        return Faults(self.name, len(self.clips), policy, self.max_bad_share)

    def advice(self) -> str:
        """What lets batches come sooner."""
        workers, cores = self.batches.num_workers, len(os.sched_getaffinity(0))
        path = self.clips.videos[0].path
        if workers < cores:
            return f"try --workers {cores} (now {workers})"
        if is_video_file(path):
            return (
                "extract the frames once, python pt_dataset/extract_frames.py; decoding video "
                "costs more"
            )
        if os.path.isdir(path):
            return (
                "pack the frames, python pt_dataset/pack_frames.py, if the disk is slow; or store "
                "them with a smaller short side"
            )
        return "store the frames on a faster disk, or with a smaller short side"


def train_loader(
    lists: VideoLists,
    shape: ClipShape,
    *,
    batch_size: int,
    flip_prob: float,
    seed: int,
    workers: int,
    on_bad_frame: str = "stop",
    max_bad_share: float = 0.01,
    shard: tuple[int, int] = (0, 1),
    equal_shares: bool = False,
    start_method: str | None = None,
) -> Loader:
    """Batches of one random clip of each training video: uint8 (N, T, S, S, C), labels, indices.

    One clip is left out where the last batch would hold only that one, which batch norm cannot
    train on; the order is random, so it is another one each time.

    Args:
        batch_size: of all processes of a run together.
        shard: rank of this process, and how many there are.
        equal_shares: as EpochBatches has it.

    Raises:
        UserError: there are too few videos, or there is no room for a batch that waits.
    """
    clips = TrainClips(lists.train, shape, lists.flipped_labels(), flip_prob, seed, on_bad_frame)
    batches = EpochBatches(
        len(clips),
        batch_size,
        shuffle=True,
        seed=seed,
        drop_last=batch_size > 1 and len(clips) % batch_size == 1,
        equal_shares=equal_shares,
        shard=shard,
    )
    if not len(batches):
        raise UserError(
            f"{lists.train_list}: {len(clips)} training videos make no batch of {batch_size} to "
            "train on: add videos, or take a smaller --batch-size"
        )
    share_bytes = -(-batch_size // shard[1]) * clip_bytes(shape)
    return Loader(
        clips,
        batches,
        "training",
        max_bad_share,
        training=True,
        workers=workers,
        batch_bytes=share_bytes,
        start_method=start_method,
    )


def view_loader(
    videos: Sequence[Video],
    shape: ClipShape,
    *,
    num_clips: int | None,
    num_crops: int,
    batch_size: int,
    workers: int,
    on_bad_frame: str = "stop",
    max_bad_share: float = 0.01,
    shard: tuple[int, int] = (0, 1),
    start_method: str | None = None,
) -> Loader:
    """Batches of views, uint8 (N, V, T, S, S, C), in list order; N * V is about `batch_size`.

    Of several processes each (`shard`: its rank, and how many there are) has batches of that size.
    Whole videos (`num_clips` None) come one by one, since T differs.

    Raises:
        UserError: there is no room for a batch that waits.
    """
    clips = ViewClips(videos, shape, num_clips, num_crops, on_bad_frame)
    if num_clips:
        batch_size = max(batch_size // (num_clips * num_crops), 1)
        num_bytes = batch_size * num_clips * num_crops * clip_bytes(shape)
    else:
        batch_size = 1
        longest = max((len(shape.view_indices(video, None)[0]) for video in videos), default=0)
        num_bytes = num_crops * longest * clip_bytes(shape) // shape.clip_len
    sampler = EpochBatches(len(clips), batch_size * shard[1], shard=shard)
    return Loader(
        clips,
        sampler,
        "evaluation",
        max_bad_share,
        training=False,
        workers=workers,
        batch_bytes=num_bytes,
        start_method=start_method,
    )


def clip_bytes(shape: ClipShape) -> int:
    return math.prod(shape.network_input())


def collate(samples: list[Sample] | tuple[torch.Tensor, list[Sample]]) -> Batch:
    """A batch of those that are not left out.

    The clips of training come with a tensor that they are parts of already. All may be left out,
    or in the share of another process.
    """
    batch, samples = samples if isinstance(samples, tuple) else (None, samples)
    faults = {sample.index: sample.fault for sample in samples if sample.fault}
    kept = [i for i, sample in enumerate(samples) if sample.clip is not None]
    if batch is not None:
        batch = batch[kept] if len(kept) < len(samples) else batch
    elif kept:  # in a worker straight into memory that the main process shares
        batch = default_collate([samples[i].clip for i in kept])
    else:
        batch = torch.empty(0, 0, dtype=torch.uint8)
    labels, indices = (
        torch.tensor([samples[i][part] for i in kept], dtype=torch.long) for part in (1, 2)
    )
    return Batch(batch, labels, indices, faults)


def fitting(workers: int, batch_bytes: int) -> tuple[int, int]:
    """How many processes can run, and how many batches each may hold, in the free memory.

    Raises:
        UserError: not even one batch fits.
    """
    shm = free_shm()
    if batch_bytes > shm:
        raise UserError(
            f"a batch has {megabytes(batch_bytes)}, and {SHM}, where loader processes leave it, "
            f"has {megabytes(shm)} free: enlarge it (docker run --shm-size 8g), or take a smaller "
            "--batch-size or --workers 0"
        )
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun says
    room = min(MEMORY_SHARE * free_memory(), SHM_SHARE * shm) / sharing
    batches = workers * AHEAD if room == math.inf else max(int(room // batch_bytes), 1)
    fit = min(workers, batches)
    ahead = min(AHEAD, batches // fit)
    if fit * ahead < workers * AHEAD:
        log.info(
            f"loader: {fit} of {workers} processes, with {ahead} instead of {AHEAD} batches of "
            f"{megabytes(batch_bytes)} each: a quarter of the free memory and half of {SHM} "
            f"is {megabytes(room)}"
        )
    return fit, ahead


def free_shm() -> float:
    """Bytes; infinite on machines that do not have it."""
    try:
        status = os.statvfs(SHM)
    except FileNotFoundError:
        return math.inf
    return status.f_bavail * status.f_frsize


def free_memory() -> float:
    """Bytes that programs can have; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return math.inf
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"


def set_up_worker(worker_id: int) -> None:
    """Signals that reach every process of a run are for the main one, which saves and ends us."""
    gc.freeze()  # a search for garbage in what the main process made would copy all of it, 45 MB
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_main, args=(os.getppid(),), daemon=True).start()


def _end_with_main(main_process: int) -> None:
    """Ends this process when the main one sends SIGTERM, as it does to close its loaders, or dies.

    A worker that waits for room in a pipe that nobody reads would otherwise outlive it for good.
    """
    while os.getppid() == main_process:
        received = signal.sigtimedwait({signal.SIGTERM}, 1)  # s
        if received and received.si_pid == main_process:
            break
    os._exit(0)
