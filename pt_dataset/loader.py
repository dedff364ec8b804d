"""Batches of uint8 clips from processes that read ahead.

The samplers yield (epoch, index), and nothing else determines a clip: the same ones come from any
number of workers, forked or spawned, and after a resume.
"""

import multiprocessing
import os
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.utils.data import DataLoader, default_collate

from config import Augmentation, Loading, Preprocessing, UserError, Views, num_cores, plural
from pt_dataset.clip_dataset import Clips, Sample, TrainClips, ViewClips
from pt_dataset.faults import Faults
from pt_dataset.processes.memory import IN_USE, fitting
from pt_dataset.sources import is_video_file
from pt_dataset.video_list import Video
from pt_dataset.video_lists import VideoLists

if TYPE_CHECKING:  # in a loader without processes it is not needed
    from pt_dataset.processes.slots import Sent, Slots


class Batch(NamedTuple):
    """What a loader yields; of several processes each has its share, which may be empty."""

    clips: torch.Tensor  # uint8 (N, T, S, S, C); views (N, V, T, S, S, C)
    labels: torch.Tensor  # (N,)
    indices: torch.Tensor  # (N,), the places of the videos in their list
    faults: dict[int, str]  # index of a video -> what was wrong with it, see pt_dataset/faults.py


class EpochBatches:
    """Yields batches of (epoch, index) of every video.

    A DataLoader keeps its processes only together with its sampler, so that one sampler serves all
    epochs: Loader.epoch sets `epoch`, and `start`, the batches to leave out where one goes on.

    Args:
        batch_size: of the whole batch, of which this process takes its share; there are as many
            batches in each process, and some shares are empty.
        seed: shuffles each epoch in another way; None: list order.
        repeats: clips of each video, of which `batch_size` is a multiple, so that they are in one
            batch; beside its own index each has others, by `num_videos` higher.
        drop_last: leaves out a last batch that is not full.
        equal_shares: leaves it out where not all processes would have as many videos of it.
        shard: rank of this process, and how many there are.
    """

    def __init__(
        self,
        num_videos: int,
        batch_size: int,
        seed: int | None = None,
        repeats: int = 1,
        *,
        drop_last: bool = False,
        equal_shares: bool = False,
        shard: tuple[int, int] = (0, 1),
    ):
        self.num_videos, self.num_clips = num_videos, num_videos * repeats
        self.batch_size, self.seed, self.shard = batch_size, seed, shard
        self.drop_last = drop_last or (equal_shares and self.num_clips % batch_size % shard[1] > 0)
        # a batch with two videos for each process leaves none with a single one, see `share`
        self.least = 1 if equal_shares else min(batch_size // shard[1], 2)
        self.epoch = self.start = 0
        self.slots: Slots | None = None

    def __len__(self) -> int:
        return (self.num_clips + (0 if self.drop_last else self.batch_size - 1)) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = list(range(self.num_videos))
        if self.seed is not None:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        order = [i for video in order for i in range(video, self.num_clips, self.num_videos)]
        if self.slots:
            self.slots.start()
        for i in range(self.start, len(self)):
            batch = order[i * self.batch_size : (i + 1) * self.batch_size]
            keys = [(self.epoch, index) for index in self.share(batch)]
            yield self.slots.keys(keys) if self.slots else keys

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
        training: a batch without clips counts as a step, and one with a single clip left has none,
            since batch norm cannot train on it. Batches without clips come in evaluation, too: the
            processes of a run have equally many.

    Raises:
        UserError: there is no room for a batch that waits.
    """

    def __init__(self, clips: Clips, sampler: EpochBatches, loading: Loading, *, training: bool):
        self.clips, self.sampler, self.training = clips, sampler, training
        self.max_bad_share = loading.max_bad_share
        workers, ahead, set_up_worker = loading.workers, None, None
        if workers:
            from pt_dataset.processes.signals import set_up_worker

            largest_share = -(-sampler.batch_size // sampler.shard[1])
            size = largest_share * clips.sample_bytes()
            workers, ahead = fitting(workers, size, IN_USE * size)
            if training and multiprocessing.get_start_method() == "fork":
                from pt_dataset.processes.slots import Slots

                sampler.slots = Slots(workers * ahead + IN_USE, size)
        self.batches = DataLoader(
            clips,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_initialized(),  # else for a CPU
            worker_init_fn=set_up_worker,
            generator=torch.Generator(),  # it draws seeds that nobody needs: not from dropout's
            prefetch_factor=ahead,
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
        for batch in map(received, started(self.batches)):
            if self.training and len(batch.labels) == 1 and self.sampler.least > 1:
                batch = Batch(batch.clips[:0], batch.labels[:0], batch.indices[:0], batch.faults)
            yield batch

    def new_faults(self) -> Faults:
        """None yet, of an epoch of this loader."""
        name = "training" if self.training else "evaluation"
        return Faults(name, len(self.clips), self.clips.on_bad_frame, self.max_bad_share)

    def advice(self) -> str:
        """What lets batches come sooner."""
        workers, cores = self.batches.num_workers, num_cores()
        path = self.clips.videos[0].path
        if workers < cores:
            return f"try --workers {cores} (now {workers})"
        if is_video_file(path):
            command = "extract the frames once, python pt_dataset/extract_frames.py"
            return f"{command}; decoding video costs more, unless shrink_videos.py made it"
        smaller = "with a smaller short side"
        if os.path.isdir(path):
            command = "pack the frames, python pt_dataset/pack_frames.py"
            return f"{command}, if the disk is slow; or store them {smaller}"
        return f"store the frames on a faster disk, or {smaller}"


def received(batch: "Batch | Sent") -> Batch:
    """A batch from this process, or from another one."""
    if isinstance(batch, Batch):
        return batch
    labels, indices = (torch.tensor(n, dtype=torch.long) for n in (batch.labels, batch.indices))
    return Batch(batch.clips(), labels, indices, batch.faults)


def started(batches: DataLoader) -> Iterator:
    """Its iterator; its processes leave signals to this one."""
    if not batches.num_workers:
        return iter(batches)
    from pt_dataset.processes.signals import held_back

    with held_back():
        return iter(batches)


def train_loader(
    lists: VideoLists,
    clip: Preprocessing,
    augmentation: Augmentation,
    loading: Loading,
    *,
    batch_size: int,
    seed: int,
    repeats: int = 1,
    shard: tuple[int, int] = (0, 1),
    equal_shares: bool = False,
) -> Loader:
    """Batches of one random clip of each training video: uint8 (N, T, S, S, C), labels, indices.

    One clip is left out where the last batch would hold only that one, which batch norm cannot
    train on; the order is random, so it is another one each time. `repeats`, `shard` and
    `equal_shares` are those of EpochBatches.

    Raises:
        UserError: there are too few videos, or there is no room for a batch that waits.
    """
    labels, policy = lists.flipped_labels(), loading.on_bad_frame
    clips = TrainClips(lists.train, clip, augmentation, labels, seed, policy)
    single = batch_size > 1 and len(clips) * repeats % batch_size == 1
    how = {"drop_last": single, "equal_shares": equal_shares, "shard": shard}
    batches = EpochBatches(len(clips), batch_size, seed, repeats, **how)
    if not len(batches):
        raise UserError(
            f"{lists.train_list}: {plural(len(clips), 'training video')} cannot make a batch of "
            f"{batch_size} to train on: add videos, or take a smaller --batch-size"
        )
    return Loader(clips, batches, loading, training=True)


def view_loader(
    videos: Sequence[Video],
    clip: Preprocessing,
    views: Views,
    loading: Loading,
    *,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    order: str = "normal",
) -> Loader:
    """Batches of views, uint8 (N, V, T, S, S, C), in list order; N * V is about `batch_size`.

    Of several processes each has batches of that size. Whole videos (views.clips None) come one by
    one, since T differs. `order` as ViewClips has it.

    Raises:
        UserError: there is no room for a batch that waits.
    """
    clips = ViewClips(videos, clip, views, loading.on_bad_frame, order)
    at_once = max(batch_size // (views.clips * views.crops), 1) if views.clips else 1
    batches = EpochBatches(len(clips), at_once * shard[1], shard=shard)
    return Loader(clips, batches, loading, training=False)


def collate(
    samples: list[Sample] | tuple[torch.Tensor, list[Sample], tuple[int, int] | None],
) -> "Batch | Sent":
    """A batch of those that are not left out.

    The clips of training come with a tensor that they are parts of already, which may be in a slot.
    All may be left out, or in the share of another process.
    """
    batch, samples, slot = samples if isinstance(samples, tuple) else (None, samples, None)
    faults = {sample.index: sample.fault for sample in samples if sample.fault}
    kept = [i for i, sample in enumerate(samples) if sample.clip is not None]
    labels, indices = [samples[i].label for i in kept], [samples[i].index for i in kept]
    if batch is not None:
        if len(kept) < len(samples):
            batch[: len(kept)] = batch[kept]
        batch = batch[: len(kept)]
    elif kept:  # in a worker straight into memory that the main process shares
        batch = default_collate([samples[i].clip for i in kept])
    else:
        batch = torch.empty(0, 0, dtype=torch.uint8)
    if slot:
        from pt_dataset.processes.slots import Sent

        return Sent(slot, tuple(batch.shape), labels, indices, faults)
    labels, indices = (torch.tensor(n, dtype=torch.long) for n in (labels, indices))
    return Batch(batch, labels, indices, faults)
