"""Ctrl-C as a request that is granted between two steps."""

import signal


class GracefulStop:
    """While entered, Ctrl-C lets the step or file in hand be finished; a second one does not."""

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "GracefulStop":
        self.previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *exception) -> None:
        signal.signal(signal.SIGINT, self.previous)

    def _request(self, signum, frame) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self.previous)

    def check(self) -> None:
        """Called where stopping is safe.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self.requested:
            raise KeyboardInterrupt
