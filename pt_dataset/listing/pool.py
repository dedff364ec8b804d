"""How the tools run: jobs on a pool of processes, and an exit status with one sentence."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TypeVar

from config import UserError
from terminal import INTERRUPTED

GOES_ON = "what is finished stays, and the same command goes on from there"
Result = TypeVar("Result")


def exit_status(tool: Callable[..., int], output: Path | str, note: str = GOES_ON, **opts) -> int:
    """The exit status that tool(**opts) returns; says in one sentence what went wrong.

    Args:
        output: what to name where an error of the operating system names no file.
        note: how to go on, the end of the sentence.
    """
    try:
        return tool(**opts)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # the disk is full, or not ours to read or write
        print(f"error: {error.filename or output}: {error.strerror}; {note}", file=sys.stderr)
    except MemoryError:
        print(f"error: the memory does not suffice; {note}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"stopped; {note}", file=sys.stderr)
        return INTERRUPTED
    return 1


def run_jobs(
    job: Callable[..., Result], todo: list[tuple], workers: int
) -> Generator[Result, None, None]:
    """Results of job(*item) for the items of `todo` as they come; ends its workers when closed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker) as pool:
        try:
            items = iter(todo)
            # Ctrl-C reaches all processes of a terminal; workers start while it is ignored, inherit
            # that, and so leave the answer to this process
            at_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)
            pending = {pool.submit(job, *item) for item in islice(items, 4 * workers)}
            signal.signal(signal.SIGINT, at_ctrl_c)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {pool.submit(job, *item) for item in islice(items, len(done))}
                yield from (future.result() for future in done)
        except BaseException as error:  # Ctrl-C and a closed iterator, too
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(f"a worker died, perhaps for lack of memory; {GOES_ON}") from None
            raise


def start_worker() -> None:
    """Ties the life of a worker to the process that started it, even where that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker

    def follow():
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
