"""Where the numbers of a run go: what all loggers have in common, and those that write its files.

All of them get the same dictionaries. The loggers that need a package of their own stand elsewhere:
utils/live_page/logger.py, utils/options/tensorboard.py; utils/build.py knows them by name.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from config import Terminal, UserError, first_misfit, misfit, refuse, whole
from utils import curves, distributed
from utils.mistakes import Mistakes

PICTURES = "mistakes.jpg", "mistakes_frames.jpg"  # for a look at them, and for moving pictures
Metrics = dict[str, Any]  # numbers, which may be infinite, text, or None
log = logging.getLogger("video")


def progress_bar(items: Iterable, desc: str, total: int, unit: str, done: int = 0) -> tqdm:
    """The items; the main process shows how many of them are done."""
    quiet = not distributed.is_main()
    how = {"leave": False, "dynamic_ncols": True, "disable": quiet}
    return tqdm(items, desc, total, unit=unit, initial=done, **how)


def say(lines: Iterable[str]) -> None:
    for line in lines:
        log.info(line)


class Console(logging.Handler):
    """Lines on the terminal, above a progress bar if there is one; log.txt has them, too."""

    gone = False

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))
        if Terminal.refusal and not self.gone:
            self.gone = True
            log.warning(f"the terminal takes no more: {Terminal.refusal}")


def set_up_console(run_dir: Path | None = None) -> None:
    """Sends the lines of the run to the terminal and, if there is a run folder, to log.txt."""
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    log.addHandler(Console())
    if run_dir:
        file = logging.FileHandler(run_dir / "log.txt", encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(file)
    log.setLevel(logging.INFO)
    logging.raiseExceptions = False  # no traceback for a line that a full disk keeps from log.txt
    log.propagate = False


class Logger:
    """Does nothing.

    `metrics` holds what there is to log by its name: "step" counts the optimizer's steps so far,
    "epoch" the epochs, with a fraction.
    """

    def log_steps(self, metrics: Metrics) -> None:
        """Averages of training since the last call."""

    def log_epoch(self, metrics: Metrics, mistakes: Mistakes) -> None:
        """Averages of the whole epoch, and the validation after it."""

    def close(self) -> None:
        """The run ends, well or not."""

    def places(self) -> list[str]:
        """Where to look at what was logged, a line each."""
        return []


class JsonLines(Logger):
    """steps.jsonl and metrics.jsonl in the run folder, appended, so that a crash loses nothing."""

    def __init__(self, run_dir: Path, step: int, epoch: int):
        """Where the run goes on; lines past it belong to what is done again, and go.

        Args:
            step: steps that are done.
            epoch: epochs that are done, with the validation that may have to follow the last step.
        """
        self.run_dir = run_dir
        for name, count, done in (("steps", "step", step), ("metrics", "epoch", epoch)):
            path = run_dir / f"{name}.jsonl"
            kept = [line for line in read_lines(path, count) if line[count] <= done]
            with whole(path) as temporary:
                temporary.write_text("".join(map(_line, kept)), encoding="utf-8")

    def log_steps(self, metrics: Metrics) -> None:
        self._append("steps.jsonl", metrics)

    def log_epoch(self, metrics: Metrics, mistakes: Mistakes) -> None:
        self._append("metrics.jsonl", metrics)

    def _append(self, name: str, metrics: Metrics) -> None:
        with open(self.run_dir / name, "a", encoding="utf-8") as file:
            file.write(_line(metrics))


def _line(metrics: Metrics) -> str:
    infinite = {  # for which JSON has no word
        name: None
        for name, value in metrics.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    return json.dumps(metrics | infinite, allow_nan=False) + "\n"


class ValidationFiles(Logger):
    """In the run folder the newest validation, looked into: its numbers and mistakes."""

    def __init__(self, run_dir: Path, epoch: int):
        """`epoch`: epochs that are done; a validation after more of them goes: it is done again."""
        self.run_dir = run_dir
        if (run_dir / "validation.json").exists():
            from utils.live_page.run_files import read_validation

            if read_validation(run_dir)["epoch"] > epoch:
                for name in ("validation.json", *PICTURES):
                    (run_dir / name).unlink(missing_ok=True)

    def log_epoch(self, metrics: Metrics, mistakes: Mistakes) -> None:
        validation = {
            "epoch": metrics["epoch"],
            "class_names": mistakes.class_names,
            "confusion": mistakes.confusion.tolist(),
            "mistakes": mistakes.facts(),
        }
        for name in () if mistakes.surest else PICTURES:
            (self.run_dir / name).unlink(missing_ok=True)
        with contextlib.ExitStack() as together:
            if mistakes.surest:
                from utils.report.mistake_pictures import films, picture

                for name, image in zip(PICTURES, (picture(mistakes), films(mistakes)), strict=True):
                    file = together.enter_context(whole(self.run_dir / name))
                    image.save(file, "JPEG", quality=90)
            file = together.enter_context(whole(self.run_dir / "validation.json"))
            # in ASCII: the path of a video may hold what no encoding has
            file.write_text(json.dumps(validation) + "\n", encoding="utf-8")


class CurvesPng(Logger):
    """curves.png in the run folder, drawn from the run's files after an epoch and at the end.

    Drawing takes half a second: epochs hardly longer than that wait for each other.
    """

    def __init__(self, run_dir: Path):
        self.run_dir, self.due, self.drawn = run_dir, 0.0, True

    def log_epoch(self, metrics: Metrics, mistakes: Mistakes) -> None:
        self.drawn = False
        if time.monotonic() >= self.due:
            self.draw()

    def draw(self) -> None:
        began = time.monotonic()
        with whole(self.run_dir / "curves.png") as temporary:
            draw_curves(temporary, self.run_dir.name, history(self.run_dir))
        self.drawn, now = True, time.monotonic()
        self.due = now + 20 * (now - began)  # a twentieth of a run's time at most

    def close(self) -> None:
        if not self.drawn:
            self.draw()

    def places(self) -> list[str]:
        return [f"curves: {self.run_dir / 'curves.png'}"]


def draw_curves(path: Path, title: str, points: list[tuple[Metrics, float]]) -> None:
    """A PNG of all windows, in two columns or, from nine on, in more; the best epoch is marked."""
    from matplotlib.figure import Figure  # takes half a second

    lines: dict[str, tuple[list[float], list[float]]] = {}  # name: epochs, values
    for metrics, epoch in points:
        for name, value in metrics.items():
            if curves.is_drawn(name, value):
                epochs, values = lines.setdefault(name, ([], []))
                epochs.append(epoch)
                values.append(value)
    windows, best = curves.windows(lines), curves.best_epoch(points)
    columns = max(2, math.isqrt(len(windows)))
    rows = math.ceil(len(windows) / columns)
    figure = Figure(figsize=(5.5 * columns, 3.75 * rows), layout="constrained")
    for i, (window, drawn) in enumerate(windows.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        for name, (label, color, dash) in drawn.items():
            style = {"solid": "-", "dot": ":"}[dash]
            axes.plot(*lines[name], style, color=color, label=label, marker=".", ms=4)
        if best and drawn:
            axes.axvline(best[0], color="0.6", lw=1, ls="--", zorder=0)
        if best and "val/top1" in drawn:
            label = f"best: {best[1]:.1f} % after epoch {best[0]:g}"
            axes.plot(*best, "o", color=curves.ORANGE, mfc="none", ms=9, label=label)
        axes.set(title=window, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.suptitle(title, parse_math=False)  # it may hold a $
    figure.savefig(path, format="png", dpi=100)


class Loggers(Logger):
    """Several loggers as one; numbers of torch and numpy reach them as Python's."""

    def __init__(self, *loggers: Logger):
        self.loggers = loggers

    def log_steps(self, metrics: Metrics) -> None:
        metrics = _plain(metrics)
        for logger in self.loggers:
            logger.log_steps(metrics)

    def log_epoch(self, metrics: Metrics, mistakes: Mistakes) -> None:
        metrics = _plain(metrics)
        for logger in self.loggers:
            logger.log_epoch(metrics, mistakes)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()

    def places(self) -> list[str]:
        return [place for logger in self.loggers for place in logger.places()]


def _plain(metrics: Metrics) -> Metrics:
    return {name: v.item() if hasattr(v, "item") else v for name, v in metrics.items()}


# Reading back what a run wrote, for a resume and for the pictures; more in live_page/run_files.py.


def read_lines(path: Path, *numbers: str) -> list[Metrics]:
    """The metrics in a file of JsonLines, if there is one; a last line cut off is left out.

    Args:
        numbers: what each line must have.

    Raises:
        UserError: a line is damaged.
    """
    lines: list[Metrics] = []
    content = path.read_bytes() if path.exists() else b""
    texts = content.split(b"\n")  # after the last newline stands nothing, or a line cut off
    for count, text in enumerate(texts[:-1], 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:  # of text or of JSON
            raise UserError(f"{path} is damaged in line {count} ({error})") from None
        problem = misfit("it", line, dict[str, float | str | None]) or first_misfit(
            (name, line.get(name), float) for name in numbers
        )
        refuse(problem, f"{path} is damaged in line {count}: {problem}")
        lines.append(line)
    return lines


def history(run_dir: Path) -> list[tuple[Metrics, float]]:
    """What the curves of a run show, and at which epoch.

    Of an epoch only what its steps have not logged, such as the validation: its averages of
    training would be drawn over the steps that they are made of.
    """
    steps = read_lines(run_dir / "steps.jsonl", "epoch")
    names = {name for metrics in steps for name in metrics}
    epochs = [
        ({name: value for name, value in m.items() if name not in names}, m["epoch"])
        for m in read_lines(run_dir / "metrics.jsonl", "epoch")
    ]
    return [(m, m["epoch"]) for m in steps] + epochs
