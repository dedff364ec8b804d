"""Several processes that train one network together, each on its share of every batch.

`torchrun` starts them, or a scheduler that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT. In a run of one process every function here does nothing, or the same for that one.
"""

import contextlib
import inspect
import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import timedelta
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from config import UserError

# for whom the main one alone works, such as while it writes a data set; a process that has ended
# is noticed at once
TIMEOUT = timedelta(minutes=30)
T = TypeVar("T")
# of a loader: clips, labels, indices, and what was wrong with videos, by their index
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[int, str]]
log = logging.getLogger("video")
_store: dist.Store | None = None  # outlives the group, to tell who failed first


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
def joined() -> Iterator[None]:
    """Inside, this process belongs to the run that the launcher's variables describe.

    Raises:
        UserError: the processes do not find each other.
    """
    global _store
    if launched() or "RANK" not in os.environ:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        _store, of_this, of_all = meet()
        dist.init_process_group(
            backend, store=_store, rank=of_this, world_size=of_all, timeout=TIMEOUT
        )
        wait_for_all()
    except (dist.DistError, ValueError) as error:
        raise UserError(
            f"process {os.environ['RANK']} does not find the others of its run "
            f"({str(error).splitlines()[0]}); start it with torchrun, or set RANK, WORLD_SIZE, "
            "LOCAL_RANK, MASTER_ADDR and MASTER_PORT"
        ) from None
    yield
    # none leaves while another still needs it; one that fails does not wait
    wait_for_all()
    dist.destroy_process_group()


def meet() -> tuple[dist.Store, int, int]:
    """A store that all processes of this start share; rank and number of processes.

    The one of torchrun outlives a restart, with addresses in it of processes that have ended.
    Under torchrun it therefore only says where the main process of this start keeps another one.
    """
    shared, of_this, of_all = next(rendezvous("env://", timeout=TIMEOUT))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return shared, of_this, of_all
    host = os.environ["MASTER_ADDR"]
    if of_this == 0:
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        shared.set("port", str(store.port))
        return store, of_this, of_all
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while True:
        try:
            port = int(shared.get("port"))
            store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=2))
            store.set_timeout(TIMEOUT)
            return store, of_this, of_all
        except dist.DistNetworkError:  # the port of an earlier start
            if time.monotonic() > deadline:
                raise


def first_to_fail() -> bool:
    """Has no other process failed before? The later ones only lost it, and have nothing to say."""
    if _store is None:
        return True
    try:
        return _store.add("failed", 1) == 1
    except dist.DistError:  # it kept the store
        return False


def lost_another(error: Exception) -> bool:
    """Does `error` only say that another process has ended?"""
    return world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


def from_main(make: Callable[[], T]) -> T:
    """What `make` returns in the main process, which alone calls it."""
    if world_size() == 1:
        return make()
    values = [make() if is_main() else None]
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
        wait_for_all()


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


def wait_for_all() -> None:
    """Not dist.barrier, which may choose the GPU of another process."""
    highest(0)


def sizes(size: int) -> list[int]:
    """The sizes that the processes have, in their order; does not wait for a GPU."""
    of_all = torch.zeros(world_size(), dtype=torch.long)
    of_all[rank()] = size
    return all_reduce_sum(of_all).tolist()


def concatenated(share: torch.Tensor, of_all: list[int]) -> torch.Tensor:
    """The whole batch, of which each process has so many rows."""
    if world_size() == 1:
        return share
    first = sum(of_all[: rank()])
    whole = share.new_zeros(sum(of_all), *share.shape[1:])
    whole[first : first + len(share)] = share
    dist.all_reduce(whole)  # every row is zero in all processes but one
    return whole


def wrapped(classifier: nn.Module, device: torch.device) -> nn.Module:
    """The module whose gradients are averaged over the processes; they start from the same weights.

    Batch norm's statistics stay those of each process, see `share_buffers`.
    """
    if not launched():
        return classifier
    # buffers are shared before an evaluation only; torch before 2.14 has the other name
    names = inspect.signature(DistributedDataParallel).parameters
    share = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    # of 1x1x1 kernels, where any strides do
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(
        classifier,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,  # no second copy of the gradients
        **{share: False},
    )


def unwrapped(classifier: nn.Module) -> nn.Module:
    """Without the averaging, for what one process does alone."""
    return classifier.module if isinstance(classifier, DistributedDataParallel) else classifier


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
