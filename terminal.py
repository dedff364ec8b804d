"""What a command and its terminal owe each other; imported first, so it imports next to nothing."""

import io
import os
import sys

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


class Terminal(io.FileIO):
    """A descriptor that takes everything: what cannot be written is lost, and ends nothing.

    The terminal may be closed, `head` may have seen enough, the disk behind a file may be full.
    """

    refusal = ""  # of any terminal, why something was lost

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            Terminal.refusal = error.strerror or str(error)
            return len(data)


def as_command() -> None:
    """From here on no terminal ends this program, and Ctrl-C ends it without a traceback.

    For the first lines of a command: Ctrl-C may come while its modules are imported.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)  # None where it was closed before the start
        if stream is not getattr(sys, f"__{name}__"):
            continue  # such as a notebook's
        number = stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY)
        os.set_blocking(number, True)  # a shell or ssh may have left it otherwise
        raw = Terminal(number, "w", closefd=False)
        form = {"encoding": stream.encoding if stream else "utf-8", "line_buffering": True}
        # a name that the terminal's letters cannot write is no error either
        file = io.TextIOWrapper(io.BufferedWriter(raw), errors="backslashreplace", **form)
        setattr(sys, name, file)
    sys.excepthook = _end


def _end(kind, error, trace) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)
