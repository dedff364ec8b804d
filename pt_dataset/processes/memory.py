"""How many batches may wait in the memory that there is."""

import contextlib
import ctypes
import logging
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from config import UserError

AHEAD = 2  # batches that each process may hold
IN_USE = 2  # that the main process may hold: one, and the next
# bytes that a loader process has of its own, beside those
PROCESS = {"fork": 45e6, "spawn": 300e6, "forkserver": 300e6}
CHANGED = 75e6  # that the main process changes after it has forked some, so that they are twice
MEMORY_SHARE = 0.25  # of the free memory, for batches that wait
SHM = Path("/dev/shm")  # where Linux keeps them; in containers it may be as small as 64 MB
SHM_SHARE = 0.5  # the rest is for what is in use, and for other programs
PROC = Path("/proc")  # where Linux says what is in use
CGROUPS = Path("/sys/fs/cgroup")  # and what a container may have
MORE_SHM = "enlarge it (docker run --shm-size 8g), or take a smaller --batch-size or --workers 0"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 1 << 25  # bytes: it takes no more
LARGE = 1 << 20  # of a tensor that matters
log = logging.getLogger("video")


def fitting(workers: int, batch_bytes: int, in_use: int) -> tuple[int, int]:
    """How many processes can run, and how many batches each may hold, in the free memory.

    Args:
        in_use: bytes of batches that the main process may hold while others wait.

    Raises:
        UserError: there is no room for one that waits.
    """
    sharing = processes_here()
    shm, needed = free_shm(), sharing * (batch_bytes + in_use)
    if needed > shm:
        raise UserError(
            f"batches need {megabytes(needed)}, and {SHM}, where loader processes leave them, has "
            f"{megabytes(shm)} free: {MORE_SHM}"
        )
    room = min(MEMORY_SHARE * free_memory(), SHM_SHARE * shm, shm - sharing * in_use) / sharing
    batches = _waiting(workers, batch_bytes, room)
    fit = min(workers, batches)
    ahead = min(AHEAD, batches // fit)
    if fit * ahead < workers * AHEAD:
        log.info(
            f"loader: {fit} of {workers} processes, with {ahead} instead of {AHEAD} batches of "
            f"{megabytes(batch_bytes)} each: the free memory and {SHM} leave them {megabytes(room)}"
        )
    return fit, ahead


def most_in_memory(workers: int, batch_bytes: int) -> int:
    """How many batches there are at once, at most: that wait, are made, and are in use.

    A process that makes one has it twice for a moment: to pass it on it is copied.
    """
    waiting = _waiting(workers, batch_bytes, MEMORY_SHARE * free_memory() / processes_here())
    return waiting + min(workers, waiting) + IN_USE


def _waiting(workers: int, batch_bytes: int, room: float) -> int:
    batches = workers * AHEAD
    return batches if room == math.inf else min(max(int(room // batch_bytes), 1), batches)


def processes_here() -> int:
    """As torchrun says, that share the memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def keep_freed_memory() -> None:
    """Frames are decoded into memory that others had before.

    Otherwise the C library gives that of a frame back to the system, which hands new memory out in
    pieces of 4 kB with an interruption each: up to a fifth of the time that decoding takes.
    """
    with only_of_glibc():
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST)


def give_freed_memory_back(*, from_now_on: bool = False) -> None:
    """To the system, so that it counts as free, and a process that is forked does not hold it, too.

    Args:
        from_now_on: at once where something large is freed. Else a step leaves gigabytes in pieces,
            of which the next one cannot use all.
    """
    with only_of_glibc():
        library = ctypes.CDLL(None)
        if from_now_on:
            library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.malloc_trim(0)


def only_of_glibc() -> contextlib.suppress:
    """Other C libraries have no such function, and Windows no library without a name."""
    return contextlib.suppress(AttributeError, TypeError)


def free_shm() -> float:
    """Bytes; infinite on machines that do not have it."""
    try:
        return shutil.disk_usage(SHM).free
    except FileNotFoundError:
        return math.inf


def free_memory() -> float:
    """Bytes that this process and those that it starts can have; infinite where nobody says.

    The least of what is left of the machine, of the containers that the process is in, and of the
    addresses that it may have (ulimit -v).
    """
    give_freed_memory_back()
    return min([*_of_machine(), *_of_containers(), *_of_addresses()], default=math.inf)


def _of_machine() -> Iterator[float]:
    for line in _lines(PROC / "meminfo"):
        if line.startswith("MemAvailable"):
            yield int(line.split()[1]) * 1024


def _of_containers() -> Iterator[float]:
    """Of each control group from the process's own up to the root, of either version."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2, which may stand beside version 1
            roots, names = [CGROUPS, CGROUPS / "unified"], ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            roots = [CGROUPS / "memory"]
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for folder in [root / part for root in roots for part in (inside, *inside.parents)]:
            try:
                limit, used = (
                    int((folder / name).read_text(encoding="utf-8")) for name in names[:2]
                )
            except (OSError, ValueError):  # not seen from inside of a container, or "max"
                continue
            # what was read of files is given up as soon as memory is wanted
            files = {f"{names[2]}inactive_file", f"{names[2]}active_file"}
            stat = (line.split() for line in _lines(folder / "memory.stat"))
            yield limit - used + sum(int(count) for name, count in stat if name in files)


def _of_addresses() -> Iterator[float]:
    try:
        import resource
    except ImportError:  # on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    for line in _lines(PROC / "self" / "statm") if limit != resource.RLIM_INFINITY else []:
        yield limit - int(line.split()[0]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    """Of a file of the system; none where it has no such file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
