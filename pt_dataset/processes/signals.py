"""What a loader process makes of signals, of the end of the process that it works for, and of
batches that it cannot hand over to it."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.queues import Queue

from torch._utils import ExceptionWrapper

from pt_dataset.processes.memory import keep_freed_memory

# signals that reach all processes of a run, and are for the main one, which saves and ends the rest
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
FOR_MAIN = {getattr(signal, name) for name in NAMES if hasattr(signal, name)}
TELLS_SENDER = hasattr(signal, "sigtimedwait")  # not on macOS and Windows


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Inside, signals wait, and so they do in processes that start here, for good.

    They are for the main process: one that reaches a process before `set_up_worker` would end it.
    """
    if not TELLS_SENDER:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_MAIN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_up_worker(worker_id: int) -> None:
    """Leaves signals to the main process, and ends with it."""
    keep_freed_memory()
    gc.freeze()  # a search for garbage in what the main process made would copy all of it, 45 MB
    if TELLS_SENDER:
        signal.pthread_sigmask(signal.SIG_BLOCK, FOR_MAIN)
        end = threading.Thread(target=_end_with_main, args=(os.getppid(),), daemon=True)
    else:  # SIGTERM ends it, whoever sends it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end = threading.Thread(target=_end_after_main, daemon=True)
    end.start()
    Queue._on_queue_feeder_error = _hand_over_error  # pyrefly: ignore[bad-assignment]


def _hand_over_error(queue: Queue, error: Exception, item: tuple) -> None:
    """Sends why a batch cannot be sent, as for lack of shared memory; else it is waited for."""
    queue.put((item[0], ExceptionWrapper(where="in a loader process")))


def _end_with_main(main_process: int) -> None:
    """Ends this process when the main one sends SIGTERM, as it does to close its loaders, or dies.

    A worker that waits for room in a pipe that nobody reads would otherwise outlive it for good.
    """
    while os.getppid() == main_process:
        received = signal.sigtimedwait({signal.SIGTERM}, 1)  # s
        if received and received.si_pid == main_process:
            break
    os._exit(0)


def _end_after_main() -> None:
    """The same of processes that were spawned, without a look at signals."""
    main_process = multiprocessing.parent_process()
    assert main_process is not None  # this is a worker
    main_process.join()
    os._exit(0)
