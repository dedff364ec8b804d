"""Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP as requests that are granted between two steps."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from config import STATUS
from utils import distributed

T = TypeVar("T")
HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


class Stop(Exception):
    """The run was asked to end, and stands where it can be saved."""

    def __init__(self, signum: int):
        self.status = STATUS[signum]
        cause = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        super().__init__(f"stopped by {cause}")


class GracefulStop:
    """While entered, a signal lets the step or file in hand be finished; a second one does not.

    Only the main thread can ask for signals: of a run in another one they end the program.
    """

    def __init__(self):
        self.requested: int | None = None

    def __enter__(self) -> "GracefulStop":
        in_main = threading.current_thread() is threading.main_thread()
        signals = set(STATUS if in_main else ())
        if HANGUP and signal.getsignal(HANGUP) == signal.SIG_IGN:  # by nohup
            signals.discard(HANGUP)
        self.previous = {signum: signal.signal(signum, self._request) for signum in signals}
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error and distributed.lost_another(error):
            return  # torchrun ends all that are left at once, and this one has still to say why
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def _request(self, signum, frame) -> None:
        self.requested = signum
        if signum == signal.SIGINT and os.isatty(2) and distributed.is_main():
            os.write(2, b"\nstopping after this step; Ctrl-C again quits at once\n")  # reentrant
        # of a closed terminal, shell and system both send one; SIGTERM may have to end what hangs
        others = {HANGUP: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
        signal.signal(signum, others.get(signum, self.previous[signum]))

    def check(self) -> None:
        """Where stopping is safe, in all processes of the run equally often.

        Raises:
            Stop: a signal has come, to this process or to another one.
        """
        signum = distributed.highest(self.requested or 0)
        if signum:
            raise Stop(signum)

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """Yields each item, then looks for a signal before the next one, and after the last.

        Raises:
            Stop: as `check` does.
        """
        try:
            for item in items:
                yield item
                self.check()
        finally:  # a progress bar ends here, not where the traceback of Stop is given up
            if close := getattr(items, "close", None):
                close()
