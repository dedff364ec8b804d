"""How many batches may wait in the memory that there is."""

import contextlib
import ctypes
import logging
import math
import os
import shutil
from pathlib import Path

from config import UserError

AHEAD = 2  # batches that each process may hold
MEMORY_SHARE = 0.25  # of the free memory, for batches that wait
SHM = Path("/dev/shm")  # where Linux keeps them; in containers it may be as small as 64 MB
SHM_SHARE = 0.5  # the rest is for what is in use, and for other programs
MORE_SHM = "enlarge it (docker run --shm-size 8g), or take a smaller --batch-size or --workers 0"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 1 << 25  # bytes: it takes no more
log = logging.getLogger("video")


def fitting(workers: int, batch_bytes: int, in_use: int) -> tuple[int, int]:
    """How many processes can run, and how many batches each may hold, in the free memory.

    Args:
        in_use: bytes of batches that the main process may hold while others wait.

    Raises:
        UserError: there is no room for one that waits.
    """
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun says
    shm, needed = free_shm(), sharing * (batch_bytes + in_use)
    if needed > shm:
        raise UserError(
            f"batches need {megabytes(needed)}, and {SHM}, where loader processes leave them, has "
            f"{megabytes(shm)} free: {MORE_SHM}"
        )
    room = min(MEMORY_SHARE * free_memory(), SHM_SHARE * shm, shm - sharing * in_use) / sharing
    batches = workers * AHEAD if room == math.inf else max(int(room // batch_bytes), 1)
    fit = min(workers, batches)
    ahead = min(AHEAD, batches // fit)
    if fit * ahead < workers * AHEAD:
        log.info(
            f"loader: {fit} of {workers} processes, with {ahead} instead of {AHEAD} batches of "
            f"{megabytes(batch_bytes)} each: the free memory and {SHM} leave them {megabytes(room)}"
        )
    return fit, ahead


def keep_freed_memory() -> None:
    """Frames are decoded into memory that others had before.

    Otherwise the C library gives that of a frame back to the system, which hands new memory out in
    pieces of 4 kB with an interruption each: up to a fifth of the time that decoding takes.
    """
    with contextlib.suppress(AttributeError):  # of another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST)


def free_shm() -> float:
    """Bytes; infinite on machines that do not have it."""
    try:
        return shutil.disk_usage(SHM).free
    except FileNotFoundError:
        return math.inf


def free_memory() -> float:
    """Bytes that programs can have; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return math.inf
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
