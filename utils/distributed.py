"""Several processes that train one network together, each on its share of every batch.

`torchrun` starts them, or a scheduler that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT. With one process, every function here does nothing or returns its own value.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
# utils may not import pt_dataset: the shapes of its Batch, and below of its Faults.
# Of a loader: clips, labels, indices, and what was wrong with videos, by their index
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[int, str]]
log = logging.getLogger("video")


def launched() -> bool:
    """Is this process one of those that a launcher started, be it the only one?"""
    return dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if launched() else 0


def world_size() -> int:
    """How many processes there are, on all machines."""
    return dist.get_world_size() if launched() else 1


def is_main() -> bool:
    """The process that logs, saves and draws."""
    return rank() == 0


def local_rank() -> int:
    """Counts the processes of one machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


@contextlib.contextmanager
def joined(command: Sequence[str] = ()) -> Iterator[None]:
    """Inside, this process belongs to the run that the launcher's variables describe.

    Args:
        command: the command line, which is to be that of all processes.
    """
    if launched() or "RANK" not in os.environ:
        yield
        return
    from utils.options.processes import joined_run

    with joined_run(command):
        yield


def lost_another(error: Exception) -> bool:
    """Does `error` only say that another process has ended, or does not answer?"""
    return world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


@contextlib.contextmanager
def short_waits() -> Iterator[None]:
    """Inside, where all processes take the same steps, they soon give up one that hangs."""
    if world_size() == 1:
        yield
        return
    from utils.options import processes

    with processes.short_waits():
        yield


def from_main(make: Callable[[], T]) -> T:
    """What `make` returns in the main process, which alone calls it."""
    if world_size() == 1:
        return make()
    values: list[Any] = [make() if is_main() else None]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gather(value: T) -> list[T]:
    """The values of all processes, in their order."""
    values = [value] * world_size()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


class Faults(Protocol):
    """What was wrong with videos in one epoch, as pt_dataset/faults.py counts it."""

    found: dict[int, str]

    @property
    def possible(self) -> bool:
        """The same in all processes."""

    def add(self, found: dict[int, str]) -> None:
        """Raises UserError where it becomes too much."""


def sharing_faults(batches: Iterable[Batch], faults: Faults) -> Generator[Batch, None, None]:
    """Yields the batches; `faults` has by then what any process found in them.

    All processes have equally many batches, and meet here at each: where it is too much, all of
    them end at the same one. At the end, early or not, it is said what was done.
    """
    try:
        for batch in batches:
            if faults.possible:
                faults.add({i: fault for part in gather(batch[3]) for i, fault in part.items()})
            yield batch
    finally:
        if faults.found:
            log.info(str(faults))


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Inside come the main process, then one on each other machine, then all others.

    What the first one leaves on a disk, such as a download, the next ones find there.
    """
    turn = 0 if is_main() else 1 if local_rank() == 0 else 2
    for now in range(3):
        if now == turn:
            yield
        highest(0)  # waits for all


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """A new tensor, on the same device."""
    total = tensor.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def highest(value: int) -> int:
    """The largest of the values that the processes have; does not wait for a GPU."""
    if world_size() == 1:
        return value
    highest_yet = torch.tensor(value)
    dist.all_reduce(highest_yet, dist.ReduceOp.MAX)
    return int(highest_yet)


def sizes(size: int) -> list[int]:
    """The sizes that the processes have, in their order; does not wait for a GPU."""
    all_sizes = torch.zeros(world_size(), dtype=torch.long)
    all_sizes[rank()] = size
    return all_reduce_sum(all_sizes).tolist()


def wrapped(classifier: nn.Module, device: torch.device) -> nn.Module:
    """The module on all GPUs, or averaging its gradients over the processes that were launched."""
    if launched():
        from utils.options.processes import averaging_gradients

        return averaging_gradients(classifier, device)
    if uses_all_gpus(device):
        from utils.options.all_gpus import on_all_gpus

        return on_all_gpus(classifier)
    return classifier


def uses_all_gpus(device: torch.device) -> bool:
    """Does one process share its clips among several GPUs?"""
    return not launched() and device == torch.device("cuda") and torch.cuda.device_count() > 1


def gradients_stay(classifier: nn.Module) -> contextlib.AbstractContextManager:
    """Inside, forward and backward add to this process's gradients only."""
    if isinstance(classifier, DistributedDataParallel):
        return classifier.no_sync()
    return contextlib.nullcontext()


def share_buffers(model: nn.Module) -> None:
    """Gives all processes the main one's batch norm statistics, which are the saved ones."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
