"""The sentence for a loader process that ended before its work did."""

import errno
import multiprocessing
import os
import re
import sys
from pathlib import Path

from pt_dataset.processes.memory import MORE_SHM, SHM, free_memory, free_shm, megabytes

# as torch says it
DEATH = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(?: is killed by signal: (.+?)\.)?"
)
NO_SHM = re.compile("unable to allocate shared memory|is killed by signal: Bus error")
LEAST = 1 << 20  # bytes: with less, it was filled by others, since there was room before
CGROUP = Path("/sys/fs/cgroup")  # of a container, which may have less memory than the machine


def death_in_words(error: RuntimeError | OSError) -> str | None:
    """What to say of such an error of a DataLoader; None of another one."""
    message = f"{error.__cause__} {error}"  # often only its cause knows the signal
    # a new loader has its semaphores there
    no_room = isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename
    if NO_SHM.search(message) or (no_room and free_shm() < LEAST):
        return (
            f"{SHM}, where loader processes leave batches, is full ({megabytes(free_shm())} free): "
            f"remove what other programs leave there, {MORE_SHM}"
        )
    match = DEATH.search(message)
    if match is None:
        return None
    who, how = f"loader process {match[1]}", match[2] or "Killed"
    if how != "Killed":
        return (
            f"{who} has crashed ({how}), perhaps over a damaged video: "
            "pt_dataset/check_json.py finds those"
        )
    return (
        f"{who} was killed, as the system does where memory runs out{memory_in_words()}; take "
        "fewer --workers or a smaller --batch-size"
    )


def most_memory() -> int:
    """Bytes that the largest of the processes had that this one started and that have ended.

    Raises:
        ImportError: the system does not say, as Windows.
    """
    import resource

    multiprocessing.active_children()  # or those that have just ended would not count yet
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def memory_in_words() -> str:
    """How much such a process had, and how much of the memory of this machine, or of a container
    that has less, is in use; "" where the system does not say."""
    try:
        most = most_memory()
        try:
            names = ("max", "current")
            total, used = (int((CGROUP / f"memory.{name}").read_text()) for name in names)
        except (OSError, ValueError):  # "max": no limit
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            used = total - free_memory()
    except ImportError:
        return ""
    used_in_words = f", and {used / 1e6:,.0f} of {megabytes(total)} are in use without it"
    return f": such a process had up to {megabytes(most)}" + used_in_words * (used > 0)
