"""Where the numbers of a run go. All loggers have one interface and get the same dictionaries."""

import importlib.util
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config import UserError, whole
from utils.mistakes import Mistakes
from utils.visdom_logger import CONFUSION, MISTAKES, RUN, TRACES, WINDOWS, VisdomLogger, readable

log = logging.getLogger("video")


class Console(logging.Handler):
    """Lines on the terminal, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def set_up_console(run_dir: Path | None = None) -> None:
    """Sends the lines of the run to the terminal and, if there is a run folder, to log.txt."""
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [Console()]
    if run_dir:
        handlers.append(logging.FileHandler(run_dir / "log.txt", encoding="utf-8"))
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    logging.raiseExceptions = False  # no traceback for a line that a full disk keeps from log.txt
    log.propagate = False


class Logger:
    """Does nothing. `metrics` has "step", optimizer steps so far, and "epoch", with a fraction."""

    def log_steps(self, metrics: dict) -> None:
        """Averages of training since the last call."""

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
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
            kept = [line for line in read_lines(path) if line[count] <= done]
            with whole(path) as temporary:
                temporary.write_text("".join(map(_line, kept)), encoding="utf-8")

    def log_steps(self, metrics: dict) -> None:
        self._append("steps.jsonl", metrics)

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        self._append("metrics.jsonl", metrics)

    def _append(self, name: str, metrics: dict) -> None:
        with open(self.run_dir / name, "a", encoding="utf-8") as file:
            file.write(_line(metrics))


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSON-lines file, if there is one; a last line cut off is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the machine stopped while this line was written
    return lines


def _line(metrics: dict) -> str:
    finite = {name: _finite(value) for name, value in metrics.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _finite(value: float | None) -> float | None:
    """JSON has no word for infinity."""
    return value if value is not None and math.isfinite(value) else None


def history(run_dir: Path) -> list[tuple[dict, float]]:
    """What the curves of a run show: training from its steps, validation from its epochs."""
    return [(m, m["epoch"]) for m in read_lines(run_dir / "steps.jsonl")] + [
        (_of_validation(m), m["epoch"]) for m in read_lines(run_dir / "metrics.jsonl")
    ]


def _of_validation(metrics: dict) -> dict:
    """The part of an epoch's metrics that is drawn: no averages of what the steps have shown."""
    return {name: value for name, value in metrics.items() if name.startswith("val/")}


class ValidationFiles(Logger):
    """validation.json and mistakes.jpg in the run folder: the newest validation, looked into."""

    def __init__(self, run_dir: Path, epoch: int):
        """`epoch`: epochs that are done; a validation after more of them goes: it is done again."""
        self.run_dir = run_dir
        if read_validation(run_dir).get("epoch", 0) > epoch:
            self._remove("validation.json", "mistakes.jpg")

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        if mistakes.surest:
            mistakes.picture().save(self.run_dir / "mistakes.jpg", quality=90)
        else:
            self._remove("mistakes.jpg")
        validation = {
            "epoch": metrics["epoch"],
            "class_names": mistakes.class_names,
            "confusion": mistakes.confusion.tolist(),  # a row of counts for each true class
        }
        text = json.dumps(validation, ensure_ascii=False) + "\n"
        with whole(self.run_dir / "validation.json") as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _remove(self, *names: str) -> None:
        for name in names:
            (self.run_dir / name).unlink(missing_ok=True)


def read_validation(run_dir: Path) -> dict:
    """What ValidationFiles wrote; nothing if there is no such file."""
    path = run_dir / "validation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_options(run_dir: Path) -> dict:
    """The options of a run that have a value."""
    text = (run_dir / "options.json").read_text(encoding="utf-8")
    return {name: value for name, value in json.loads(text).items() if value not in (None, {})}


class CurvesPng(Logger):
    """curves.png in the run folder, drawn again after each epoch from the run's files."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        from matplotlib.figure import Figure  # takes half a second

        points: dict[str, tuple[list, list]] = {}
        for values, epoch in history(self.run_dir):
            for name, value in values.items():
                if value is not None:
                    xs, ys = points.setdefault(name, ([], []))
                    xs.append(epoch)
                    ys.append(value)
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        for axes, (title, names) in zip(figure.subplots(2, 2).flat, WINDOWS.items(), strict=True):
            for name in names:
                if name in points:
                    label, color, dash = TRACES[name]
                    style = {"solid": "-", "dot": ":"}[dash]  # plotly's words
                    axes.plot(*points[name], style, color=color, label=label, marker=".", ms=4)
            axes.set(title=title, xlabel="epoch")
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend()
        figure.suptitle(self.run_dir.name, parse_math=False)  # it may hold a $
        temporary = self.run_dir / ".curves.png"
        figure.savefig(temporary, format="png", dpi=100)
        temporary.replace(self.run_dir / "curves.png")

    def places(self) -> list[str]:
        return [f"curves: {self.run_dir / 'curves.png'}"]


class Visdom(Logger):
    """The live page of visdom, with what a resumed run did before."""

    def __init__(self, run_dir: Path, server: str, port: int, env: str | None, say=log.info):
        self.run_dir = run_dir
        self.newest = {"epoch": 0, "step": 0}  # on top
        self.options = read_options(run_dir)
        self.page = VisdomLogger(
            env=env or run_dir.name,
            server=server,
            port=port,
            env_path=run_dir.parent / ".visdom",
            say=say,
        )
        for metrics, epoch in history(run_dir):
            self.page.log(metrics, epoch)
            self.newest |= metrics
        self._show_numbers()
        self._show_validation()

    def log_steps(self, metrics: dict) -> None:
        self.page.log(metrics, metrics["epoch"])
        self.newest |= metrics
        self._show_numbers()

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        validation = _of_validation(metrics)
        self.page.log(validation, metrics["epoch"])
        self.newest |= validation
        self._show_numbers()
        self._show_validation()

    def _show_numbers(self) -> None:
        self.page.tables(RUN, self.newest, self.options)

    def _show_validation(self) -> None:
        validation, picture = read_validation(self.run_dir), self.run_dir / "mistakes.jpg"
        if validation:
            self.page.confusion(CONFUSION, validation["confusion"], validation["class_names"])
            if picture.exists():
                self.page.picture(MISTAKES, picture.read_bytes())
            else:
                self.page.text(MISTAKES, "none")

    def close(self) -> None:
        self.page.close()

    def places(self) -> list[str]:
        return [f"visdom: {self.page.url}"] if self.page.shown else []


class TensorBoard(Logger):
    """Event files in the run folder; the x axis is the step."""

    def __init__(self, run_dir: Path, step: int):
        """`step`: where the run goes on; later events belong to what is done again, and go."""
        from torch.utils.tensorboard import SummaryWriter  # optional, and takes a second

        self.run_dir, self.folder = run_dir, run_dir / "tensorboard"
        self.writer = SummaryWriter(self.folder, purge_step=step + 1, flush_secs=10)
        options = read_options(run_dir).items()
        text = "\n".join(f"    {name} {readable(value)}" for name, value in options)
        self.writer.add_text("options", text, step)

    def log_steps(self, metrics: dict) -> None:
        for name, value in metrics.items():
            if name != "step":
                self.writer.add_scalar(name, value, metrics["step"])

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        for name, value in _of_validation(metrics).items():
            self.writer.add_scalar(name, value, metrics["step"])
        if mistakes.surest:
            pixels = np.asarray(mistakes.picture())
            self.writer.add_image("mistakes", pixels, metrics["step"], dataformats="HWC")

    def close(self) -> None:
        self.writer.close()

    def places(self) -> list[str]:
        return [f"tensorboard: tensorboard --logdir {self.folder}"]


class Loggers(Logger):
    """Several loggers as one."""

    def __init__(self, *loggers: Logger):
        self.loggers = loggers

    def log_steps(self, metrics: dict) -> None:
        for logger in self.loggers:
            logger.log_steps(metrics)

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        for logger in self.loggers:
            logger.log_epoch(metrics, mistakes)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()

    def places(self) -> list[str]:
        return [place for logger in self.loggers for place in logger.places()]


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError if a logger among `names` needs a package that is not there."""
    if "tensorboard" in names and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--logger tensorboard needs a package: pip install tensorboard")


def build(
    run_dir: Path,
    step: int,
    epoch: int,
    names: Sequence[str],
    *,
    server: str,
    port: int,
    env: str | None,
) -> Logger:
    """The loggers of a run that has done so much; the files first, which the others read.

    Args:
        names: "visdom", "tensorboard", beside the files.
        server, port, env: of visdom's page; `env` is the run's name if it is None.
    """
    loggers = [JsonLines(run_dir, step, epoch), ValidationFiles(run_dir, epoch), CurvesPng(run_dir)]
    if "visdom" in names:
        loggers.append(Visdom(run_dir, server, port, env))
    if "tensorboard" in names:
        loggers.append(TensorBoard(run_dir, step))
    return Loggers(*loggers)
