"""A machine that has nothing of what only Linux has, as far as one can be made of a Linux machine.

Run as a script, it does what main.py does with each of several command lines, a JSON list. Loader
processes import it, too, so that they miss the same things.
"""

# ruff: noqa: F401
# first what is not of this project, which may need them
import builtins
import contextlib
import fcntl
import io
import json
import multiprocessing.resource_tracker
import os
import re
import shutil
import signal
import sys
import types
from pathlib import Path

import matplotlib.figure
import torch.distributed
import torch.utils.data
import torchvision
import tqdm

MISSING = {
    os: "sched_getaffinity fork forkpty register_at_fork statvfs fstatvfs sysconf getuid geteuid "
    "getgid getegid chown fchmod killpg getpgid setsid mkfifo nice getloadavg pread pwrite "
    "posix_fadvise O_NONBLOCK O_NOFOLLOW O_DIRECTORY",
    signal: "sigtimedwait sigwait sigwaitinfo pthread_sigmask pthread_kill SIGHUP SIGUSR1 SIGUSR2 "
    "SIGKILL SIGSTOP SIGALRM alarm setitimer",
}
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")
LINUX_FOLDERS = ("/proc", "/dev/shm", "/sys/fs")
RESERVED = re.compile(r'[<>:"|?*\\]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
real = {name: getattr(os, name) for name in ("listdir", "readlink", "replace", "rename", "unlink")}
get_flags = fcntl.fcntl, fcntl.F_GETFL


def is_open(path) -> bool:
    """Is it open in this process, or a file below it?"""
    whole = os.path.abspath(os.fspath(path))
    for number in real["listdir"]("/proc/self/fd"):
        try:
            name = real["readlink"](f"/proc/self/fd/{number}")
        except OSError:
            continue
        if name == whole or name.startswith(f"{whole}/"):
            return True
    return False


def closed_only(name):
    """A function of `os` that refuses files that are open, as Windows does."""

    def function(*paths, **how):
        for path in paths:
            if "dir_fd" not in how and "src_dir_fd" not in how and is_open(path):
                raise PermissionError(13, "is being used by another process", os.fspath(path))
        return real[name](*paths, **how)

    return function


def opening(function, mode_of):
    """A function that opens files: not those of Linux, and none by a name that Windows refuses."""

    def opened(path, *args, **how):
        if isinstance(path, str | os.PathLike):
            text = os.path.abspath(os.fspath(path))
            if text.startswith(LINUX_FOLDERS):
                raise FileNotFoundError(2, "No such file or directory", text)
            if mode_of(args, how) and any(map(RESERVED.search, text.split("/")[1:])):
                raise OSError(22, "Invalid argument", text)
        return function(path, *args, **how)

    return opened


def fsync(number: int) -> None:
    if get_flags[0](number, get_flags[1]) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")


def locking(number: int, mode: int, count: int) -> None:
    """Of `msvcrt`: a lock on bytes at the place where the file stands."""
    fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB, count, 0, os.SEEK_CUR)


def no_disk(path):
    if str(path).startswith(LINUX_FOLDERS):
        raise FileNotFoundError(3, "The system cannot find the path specified", str(path))
    return shutil._ntuple_diskusage(2**40, 0, 2**40)


def take_away() -> None:
    for module, names in MISSING.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    for name in MODULES:
        sys.modules[name] = None
    for name in ("replace", "rename", "unlink"):
        setattr(os, name, closed_only(name))
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    multiprocessing.resource_tracker._HAVE_SIGMASK = False
    os.remove, os.fsync, shutil.disk_usage = os.unlink, fsync, no_disk

    def writes(args, how):
        return set("wax+") & set(args[0] if args else how.get("mode", "r"))

    builtins.open = io.open = opening(io.open, writes)
    os.mkdir = opening(os.mkdir, lambda args, how: True)
    os.scandir = opening(os.scandir, lambda args, how: False)
    os.stat = opening(os.stat, lambda args, how: False)
    multiprocessing.set_start_method("spawn", force=True)


take_away()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if __name__ == "__main__":
    from config import as_command

    as_command()
    from main import main

    for argv in json.loads(sys.argv[1]):
        if status := main(argv):
            sys.exit(status)
