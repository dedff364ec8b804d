"""Work in a process of its own: its peak of memory is then that of the work, and of nothing else.

The kernel never lowers the peak that it tells of a process.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

FRESH = multiprocessing.get_context("forkserver")  # has imported torch and computed nothing
T = TypeVar("T")


def apart(function: Callable[..., T], *args, threads: int = 1) -> T:
    """What `function` of a module returns of `args` in a new process."""
    (found,) = together([(function, *args)], threads)
    return found


def together(calls: list[tuple], threads: int = 1) -> list:
    """The same for several functions with their arguments, each in a process, at the same time."""
    FRESH.set_forkserver_preload(["torch", "torchvision"])
    with ProcessPoolExecutor(len(calls), mp_context=FRESH) as pool:
        return [f.result() for f in [pool.submit(_call, threads, *call) for call in calls]]


def _call(threads: int, function: Callable[..., T], *args) -> T:
    import torch

    torch.set_num_threads(threads)
    return function(*args)


def clock() -> float:
    """Seconds; of one thread those of the processor, without waiting for other programs."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def peak_megabytes() -> float:
    """The most memory that this process ever had; getrusage would count its parent's, too."""
    return _kilobytes(Path("/proc/self/status"), "VmHWM") / 1e3


def megabytes_since(before: float) -> float:
    """By how much the peak has risen; less than one says nothing."""
    return max(peak_megabytes() - before, 1.0)


def private_megabytes(pid: int) -> float:
    """What a process shares with no other, not even with the one that it was forked from."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return sum(_kilobytes(rollup, f"Private_{kind}") for kind in ("Clean", "Dirty")) / 1e3


def _kilobytes(path: Path, key: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{key}:")
