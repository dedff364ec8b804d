"""Where the numbers of a run go. All loggers have one interface and get the same dictionaries."""

import json
import logging
import math
from pathlib import Path

from tqdm import tqdm

from utils.checkpoint import write_whole
from utils.visdom_logger import TRACES, WINDOWS, VisdomLogger

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

    def log_epoch(self, metrics: dict) -> None:
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
            write_whole(path, "".join(map(_line, kept)).encode())

    def log_steps(self, metrics: dict) -> None:
        self._append("steps.jsonl", metrics)

    def log_epoch(self, metrics: dict) -> None:
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
    return [(_curves(m, "steps"), m["epoch"]) for m in read_lines(run_dir / "steps.jsonl")] + [
        (_curves(m, "epoch"), m["epoch"]) for m in read_lines(run_dir / "metrics.jsonl")
    ]


def _curves(metrics: dict, kind: str) -> dict:
    """The part of `metrics` that is drawn: no epoch averages of what the steps have shown."""
    return {
        name: metrics[name]
        for name in TRACES
        if name in metrics and name.startswith("val/") == (kind == "epoch")
    }


class CurvesPng(Logger):
    """curves.png in the run folder, drawn again after each epoch from the run's files."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def log_epoch(self, metrics: dict) -> None:
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
        figure.suptitle(self.run_dir.name)
        temporary = self.run_dir / ".curves.png"
        figure.savefig(temporary, format="png", dpi=100)
        temporary.replace(self.run_dir / "curves.png")

    def places(self) -> list[str]:
        return [f"curves: {self.run_dir / 'curves.png'}"]


class Visdom(Logger):
    """Live curves on visdom's page, the earlier ones of a resumed run included."""

    def __init__(self, run_dir: Path, server: str, port: int):
        self.page = VisdomLogger(
            env=run_dir.name,
            server=server,
            port=port,
            env_path=run_dir.parent / ".visdom",
            say=log.info,
        )
        self.page.load(history(run_dir))

    def log_steps(self, metrics: dict) -> None:
        self.page.log(_curves(metrics, "steps"), metrics["epoch"])

    def log_epoch(self, metrics: dict) -> None:
        self.page.log(_curves(metrics, "epoch"), metrics["epoch"])

    def close(self) -> None:
        self.page.close()

    def places(self) -> list[str]:
        return [f"visdom: {self.page.url}"] if self.page.shown else []


class Loggers(Logger):
    """Several loggers as one."""

    def __init__(self, *loggers: Logger):
        self.loggers = loggers

    def log_steps(self, metrics: dict) -> None:
        for logger in self.loggers:
            logger.log_steps(metrics)

    def log_epoch(self, metrics: dict) -> None:
        for logger in self.loggers:
            logger.log_epoch(metrics)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()

    def places(self) -> list[str]:
        return [place for logger in self.loggers for place in logger.places()]


def build(
    run_dir: Path, step: int, epoch: int, visdom_server: str | None, visdom_port: int
) -> Logger:
    """The loggers of a run that has done so much; the files first, which the others read."""
    files = [JsonLines(run_dir, step, epoch), CurvesPng(run_dir)]
    return Loggers(
        *files, *([Visdom(run_dir, visdom_server, visdom_port)] if visdom_server else [])
    )
