"""Who writes to a file or folder: one process at a time, of all that ask."""

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from config import MARK, UserError, beside, remove_unfinished

LOCKED = 1 << 30  # the byte that Windows locks, which nobody may read then; far behind the words
log = logging.getLogger("video")


@contextlib.contextmanager
def owned(path: str | os.PathLike, wait: float = 0, inside: bool = False) -> Iterator[str]:
    """Inside, no other process that asks as well writes to `path`, a file or folder.

    It holds a lock on a hidden file, which the system takes from a process that has ended, however
    that was. What such a one left unfinished in `path` and beside it is removed; it yields the MARK
    of that process, or "". Of a disk without locks it says so, and that is all.

    Args:
        wait: for so many seconds for another owner to end.
        inside: the hidden file is in the folder, which is made, and not beside it.

    Raises:
        UserError: another process has it for longer than that.
    """
    real = Path(os.path.realpath(path))
    lock = real / ".lock" if inside else beside(real, "lock")
    with contextlib.ExitStack() as stack:
        before = ""
        try:
            if not lock.parent.exists():
                stack.callback(_remove_if_empty, lock.parent)
                lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(_locked(lock, path, wait))
            stack.callback(_remove, lock)  # while it is ours: before it is closed
            before = _owner(file)[1]
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n{MARK}".encode())
        except OSError as error:
            reason = error.strerror or error
            log.warning(f"{lock} cannot be locked ({reason}): let nothing else write to {path} now")
        remove_unfinished({real, real.parent}, before)
        yield before


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove(lock: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):  # on Windows, an open file stays
        lock.unlink()


def _owner(file: IO[bytes]) -> tuple[str, str]:
    """Who locked it last, in words, and the MARK of that process, or ""."""
    file.seek(0)
    who, _, mark = file.read(1000).decode("utf-8", "replace").partition("\n")
    return who or "another process", mark if re.fullmatch("[0-9a-f]{8}", mark) else ""


def _locked(lock: Path, path: str | os.PathLike, wait: float) -> IO[bytes]:
    """The open file `lock`, locked; see `owned`."""
    deadline, told = time.monotonic() + wait, False
    while True:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(lock, "a+b", buffering=0))
            if try_lock(file):
                with contextlib.suppress(FileNotFoundError):  # its owner has removed it meanwhile
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                        stack.pop_all()
                        return file
                continue
            owner = _owner(file)[0]
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{path} is in use by {owner}; wait until that ends, or choose another name"
                )
            if not told:
                log.warning(f"waiting for {owner}, which writes to {path}")
            told = True
            time.sleep(0.2)


def try_lock(file: IO) -> bool:
    """Locks a file that is open for writing, until it is closed, unless another process has it."""
    try:
        try:
            # unlike flock's, these locks do not pass to the processes that load data, which may
            # live on for some seconds after this one was killed
            from fcntl import LOCK_EX, LOCK_NB, lockf
        except ImportError:  # on Windows
            import msvcrt

            file.seek(LOCKED)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyrefly: ignore[missing-attribute]
        else:
            lockf(file, LOCK_EX | LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
