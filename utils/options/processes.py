"""What a run of several processes needs beyond that of one: to meet, and to work as one.

Imported where a launcher has started this process, or where --sync-bn is checked.
"""

import hashlib
import inspect
import os
import random
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from config import UserError
from utils.options.signs_of_life import GOES_ON, Others

if TYPE_CHECKING:
    from utils.trainer import Trainer

# for whom the main one alone works, such as while it writes a data set; a process that has ended
# is noticed at once, and one that is not heard of any more as signs_of_life.py says
TIMEOUT = timedelta(minutes=30)
STEP_TIMEOUT = timedelta(minutes=5)  # between two steps, where all do the same
LOOPBACK = "127.0.0.1"
ROOMS = ("models", "pt_dataset", "utils")  # that hold our code
_failures: dist.Store | None = None  # outlives the group, to tell who failed first
_others: Others | None = None


@contextmanager
def joined_run(command: Sequence[str]) -> Iterator[None]:
    """Inside, this process belongs to the run that the launcher's variables describe.

    Raises:
        UserError: the processes do not find each other, or they were not started alike.
    """
    global _failures, _others
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, _failures, rank, world_size = meet()
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
        _others = Others(store, _failures, rank, world_size)
        wait_for_all()
    except (dist.DistError, ValueError) as error:
        raise UserError(
            f"process {os.environ['RANK']} does not find the others of its run "
            f"({str(error).splitlines()[0]}); start it with torchrun, or set RANK, WORLD_SIZE, "
            "LOCAL_RANK, MASTER_ADDR and MASTER_PORT"
        ) from None
    check_same_start(command)
    if world_size > 1:
        _others.start()
    yield
    # none leaves while another still needs it; one that fails does not wait
    wait_for_all()
    _others.done.set()
    dist.destroy_process_group()


@contextmanager
def short_waits() -> Iterator[None]:
    """Inside, no process waits for another as long as at the start."""
    set_timeout(STEP_TIMEOUT)
    try:
        yield
    finally:
        set_timeout(TIMEOUT)


def set_timeout(limit: timedelta) -> None:
    """NCCL's, which ends the process without a sentence, is a little longer than gloo's."""
    group = dist.distributed_c10d._get_default_group()
    for device in group._device_types:
        extra = timedelta(minutes=1 if device.type == "cuda" else 0)
        group._get_backend(device)._set_default_timeout(limit + extra)


def loss_in_words(error: Exception) -> str:
    """The sentence for an error by which this process lost another one."""
    if _others and "timed out" in str(error).lower():
        return (
            f"waited for the other processes of this run for more than {STEP_TIMEOUT}; "
            f"{_others.in_words()}; {GOES_ON}"
        )
    return f"another process of this run has ended; {GOES_ON}"


def wait_for_all() -> None:
    """Not dist.barrier, which may choose the GPU of another process."""
    dist.all_reduce(torch.zeros(1))


def meet() -> tuple[dist.Store, dist.Store, int, int]:
    """A store that all processes of this start share, and one that outlives the main one, if there
    is any; rank and number of processes.

    The one of torchrun outlives a restart, with addresses in it of processes that have ended.
    Under torchrun it therefore only says where the main process of this start keeps another one:
    on one machine where no other can reach it, since whoever does can change what is in it.
    """
    shared, rank, world_size = next(rendezvous("env://", timeout=TIMEOUT))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return shared, shared, rank, world_size
    failures = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), shared)
    one_machine = os.environ["LOCAL_WORLD_SIZE"] == str(world_size)
    host = LOOPBACK if one_machine else os.environ["MASTER_ADDR"]
    if rank == 0:
        # a store that opens its own port listens on every address
        listening = socket.create_server((LOOPBACK, 0)) if one_machine else None
        store = dist.TCPStore(
            host,
            listening.getsockname()[1] if listening else 0,
            is_master=True,
            wait_for_workers=False,
            timeout=TIMEOUT,
            master_listen_fd=listening.detach() if listening else None,
        )
        shared.set("port", str(store.port))
        return store, failures, rank, world_size
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while True:
        try:
            port = int(shared.get("port"))
            store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=2))
            store.set_timeout(TIMEOUT)
            return store, failures, rank, world_size
        except dist.DistNetworkError:  # the port of an earlier start
            if time.monotonic() > deadline:
                raise


def first_to_fail() -> bool:
    """Has no other process failed before? The later ones only lost it, and have nothing to say."""
    if _failures is None:
        return True
    try:
        return _failures.add("failed", 1) == 1
    except dist.DistError:  # it kept the store
        return False


def own_gpu(name: str) -> str:
    """The GPU of this process, of those on its machine; `name` is "cuda".

    Raises:
        UserError: there is none for it, or one was named.
    """
    num_gpus, own = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
    if num_gpus == 1 and "SLURM_GPUS_PER_TASK" in os.environ:
        own = 0  # each process sees its own GPU alone
    if own >= num_gpus:
        raise UserError(
            f"process {own + 1} on this machine has no GPU of its own, there are {num_gpus}: "
            f"torchrun --nproc_per_node={num_gpus}, or --device cpu"
        )
    if ":" in name:
        raise UserError(
            f"--device {name} is for one process; of several each takes the next GPU, those of "
            "CUDA_VISIBLE_DEVICES where that is set"
        )
    return f"cuda:{own}"


def check_shares(num_processes: int, batch_size: int, sync_bn: bool, device: torch.device) -> None:
    """Can the batch be split over the processes of a run?

    Raises:
        UserError: it cannot.
    """
    if batch_size < num_processes:
        raise UserError(
            f"--batch-size {batch_size} is less than a clip for each of {num_processes} processes"
        )
    if not sync_bn:
        return
    if num_processes == 1 or device.type != "cuda":
        raise UserError(
            "--sync-bn is for several processes with a GPU each, started by torchrun; "
            "--no-sync-bn goes on without it"
        )
    if batch_size % num_processes:
        raise UserError(
            f"--sync-bn needs a --batch-size that is a multiple of the {num_processes} processes"
        )


def check_same_start(command: Sequence[str]) -> None:
    """Raises UserError where processes have another command line, PyTorch or code of ours."""
    root, code = Path(__file__).resolve().parents[2], hashlib.sha256()
    for place in (root.glob("*.py"), *((root / room).rglob("*.py") for room in ROOMS)):
        for path in sorted(place):
            code.update(path.read_bytes())
    facts = {"command line": " ".join(command), "version of PyTorch": torch.__version__}
    check_alike(facts | {"code of this software": code.hexdigest()[:8]})


def check_same_data(data: dict[str, Any]) -> None:
    """Raises UserError where the lists of processes differ, see pt_dataset/identity.py."""
    facts = {}
    columns = {"labels": "labels", "num_frames": "numbers of frames", "fps": "frame rates"}
    for part in ("train", "test", "validation"):  # the last: by --val-groups
        names = data[part]["names"]
        by_name = names.argsort(stable=True)
        facts[f"videos of the {part} list"] = digest(names[by_name])
        facts[f"order of the {part} list"] = digest(names)
        for column, words in columns.items():
            facts[f"{words} of the {part} list"] = digest(data[part][column][by_name])
    check_alike(facts)


def digest(column: torch.Tensor) -> str:
    return f"{len(column)} videos, {hashlib.sha256(column.numpy().tobytes()).hexdigest()[:8]}"


def check_alike(facts: dict[str, str]) -> None:
    """Raises UserError, in all processes, where one knows something else than the first."""
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, (socket.gethostname(), facts))
    main, expected = everywhere[0]
    for rank, (host, found) in enumerate(everywhere):
        for name in expected:
            if found[name] != expected[name]:
                raise UserError(
                    f"process {rank} on {host} and process 0 on {main} differ in the {name}: "
                    f"'{found[name]}' and '{expected[name]}'; all processes of a run need the same"
                )


def concatenated(share: torch.Tensor, shares: list[int]) -> torch.Tensor:
    """The whole batch, of which each process has so many rows."""
    first = sum(shares[: dist.get_rank()])
    whole = share.new_zeros(sum(shares), *share.shape[1:])
    whole[first : first + len(share)] = share
    dist.all_reduce(whole)  # every row is zero in all processes but one
    return whole


def averaging_gradients(classifier: nn.Module, device: torch.device) -> nn.Module:
    """The module whose gradients are averaged over the processes; they start from the same weights.

    Batch norm's statistics stay those of each process, see `share_buffers`.
    """
    # buffers are shared before an evaluation only; torch before 2.14 has the other name
    names = inspect.signature(DistributedDataParallel).parameters
    share = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    how: dict[str, Any] = {share: False}
    # of 1x1x1 kernels, where any strides do
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(
        classifier,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,  # no second copy of the gradients
        **how,
    )


def seed_dropout(seed: int, step: int) -> None:
    """Dropout of its own for each process and step, and the same one after a resume."""
    key = f"{seed} dropout {step} {dist.get_rank()}"
    torch.manual_seed(random.Random(key).getrandbits(63))


def take_part(trainer: "Trainer", clips: torch.Tensor, total: int | torch.Tensor) -> None:
    """A gradient of zero from a process without a clip in this batch.

    The others would wait for it without end. In evaluation, so that batch norm does not see the
    clip that stands in.
    """
    trainer.classifier.eval()
    for module in trainer.model.modules():
        if isinstance(module, nn.RNNBase):  # cuDNN's has no gradient in evaluation
            module.train()
    logits = trainer.classifier(clips.new_zeros(1, *clips.shape[1:]))
    trainer.backward(0 * logits.sum(), total)
    trainer.to_training()
