"""The live page as a logger."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from utils.curves import CONFUSION, MISTAKES, RUN
from utils.live_page.page import Page
from utils.live_page.panes import confusion_pane, picture_pane, tables_pane, text_pane
from utils.live_page.run_files import Folder, read_options, step_names
from utils.loggers import Logger, history, read_validation
from utils.mistakes import Mistakes

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
        self.step_names = step_names(run_dir)
        self.folder = Folder.of(run_dir)
        where = {"env_path": run_dir.parent / ".visdom", "folder": self.folder}
        self.page = Page(env or run_dir.name, server, port, **where, say=say)
        for metrics, epoch in history(run_dir):
            self.page.log(metrics, epoch)
            self.newest |= metrics
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
        self._show_numbers()

    def _show_numbers(self) -> None:
        # a copy: the page's thread reads it later
        tables = self.newest.copy(), self.options
        self.page.show(RUN, partial(tables_pane, *tables, folder=self.folder))

    def _show_validation(self) -> None:
        # from the files, which hold it after a resume, too
        validation, picture = read_validation(self.run_dir), self.run_dir / "mistakes.jpg"
        if validation:
            counts, class_names = validation["confusion"], validation["class_names"]
            self.page.show(CONFUSION, partial(confusion_pane, counts, class_names))
            there = partial(picture_pane, picture.read_bytes()) if picture.exists() else None
            self.page.show(MISTAKES, there or partial(text_pane, "none"))

    def close(self) -> None:
        self.page.close()

    def places(self) -> list[str]:
        return self.page.places
