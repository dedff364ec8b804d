"""The live page as a logger."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from utils.curves import CONFUSION, MISTAKES, RUN
from utils.live_page.page import Page
from utils.live_page.panes import confusion_pane, picture_pane, tables_pane, text_pane
from utils.live_page.run_files import (
    Folder,
    differing_options,
    read_options,
    read_validation,
    step_names,
)
from utils.loggers import Logger, history
from utils.mistakes import Mistakes
from utils.results import duration

Say = Callable[[str], None]
log = logging.getLogger("video")


class Visdom(Logger):
    """The live page of a run, with what the run did before it was resumed.

    `env` is the name of the run if it is None; see Page for the others.
    """

    def __init__(self, run_dir: Path, server: str, port: int, env: str | None, say: Say = log.info):
        self.run_dir = run_dir
        self.newest: dict = {"epoch": 0, "step": 0}  # these two on top
        self.options = read_options(run_dir)
        self.usual = {name: usual for name, _, usual in differing_options(run_dir)}
        self.step_names = step_names(run_dir)
        self.folder = Folder.of(run_dir)
        where = {"env_path": run_dir.parent / ".visdom", "folder": self.folder}
        self.page = Page(env or run_dir.name, server, port, **where, say=say)
        for metrics, epoch in history(run_dir):
            self.page.log(metrics, epoch)
            self.newest |= metrics
        done = max((epoch for _, epoch in history(run_dir)), default=0)
        self.began, self.time_left = (time.monotonic(), done), ""
        self._show_numbers()
        self._show_validation()

    def log_steps(self, metrics: dict) -> None:
        self.step_names |= metrics.keys()
        self._add(metrics, metrics["epoch"])

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        new = {name: value for name, value in metrics.items() if name not in self.step_names}
        self._add(new, metrics["epoch"])
        self._show_validation()

    def _add(self, metrics: dict, epoch: float) -> None:
        self.page.log(metrics, epoch)
        self.newest |= metrics
        (began, first), left = self.began, self.options.get("epochs", 0) - epoch
        self.time_left = ""
        if first < epoch and left > 0:  # at the pace of this process, validations included
            hours = (time.monotonic() - began) / 3600
            self.time_left = duration(left * hours / (epoch - first))
        self._show_numbers()

    def _show_numbers(self) -> None:
        # a copy: the page's thread reads it later
        left = {"time left": self.time_left} if self.time_left else {}
        tables = left | self.newest, self.options, self.usual
        self.page.show(RUN, partial(tables_pane, *tables, folder=self.folder))

    def _show_validation(self) -> None:
        # from the files, which hold it after a resume, too
        validation, picture = read_validation(self.run_dir), self.run_dir / "mistakes.jpg"
        if validation:
            counts, class_names = validation["confusion"], validation["class_names"]
            self.page.show(CONFUSION, partial(confusion_pane, counts, class_names))
            there = partial(text_pane, "none")
            if picture.exists():
                words = "; ".join(
                    f"{one['path']}: {one['class_name']}, taken for {one['taken_for']}"
                    for one in validation.get("mistakes", [])
                )
                there = partial(picture_pane, picture.read_bytes(), words)
            self.page.show(MISTAKES, there)

    def close(self) -> None:
        self.page.close()

    def places(self) -> list[str]:
        return self.page.places
