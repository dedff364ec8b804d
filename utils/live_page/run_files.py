"""What a run has written, for a page or TensorBoard that goes on with it."""

import json
import socket
from pathlib import Path
from typing import Any, NamedTuple

from utils.loggers import read_lines


class Folder(NamedTuple):
    """What tells a run folder from those of the same name."""

    host: str
    inode: int
    path: str

    @classmethod
    def of(cls, run_dir: Path) -> "Folder":
        return cls(socket.gethostname(), run_dir.stat().st_ino, str(run_dir.resolve()))

    def is_same(self, other: "Folder") -> bool:
        # a run may go on on another host, and a folder may be made anew
        once_more = self.host == other.host or self.inode == other.inode
        return self.path == other.path and once_more


def step_names(run_dir: Path) -> set[str]:
    """The names of all that the steps of a run have logged."""
    return {name for metrics in read_lines(run_dir / "steps.jsonl") for name in metrics}


def read_options(run_dir: Path) -> dict[str, Any]:
    """The options of a run that have a value."""
    text = (run_dir / "options.json").read_text(encoding="utf-8")
    return {name: value for name, value in json.loads(text).items() if value not in (None, {})}


def readable(value: object) -> str:
    """Four digits of a number; the values of a list without brackets."""
    if value is None:  # JSON has no word for infinity
        return "no number"
    if isinstance(value, list):
        return " ".join(map(readable, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
