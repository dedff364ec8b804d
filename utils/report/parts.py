"""The parts of a report that one run has: each function makes a section of the page."""

import base64
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from config import plural
from utils import curves
from utils.confusion import confusion_matrix
from utils.live_page.run_files import as_typed, readable
from utils.loggers import Metrics
from utils.metrics import wilson_interval
from utils.report.markup import Markup, breakable, join, section, table, tag
from utils.report.run_folder import RunFolder
from utils.report.svg import Line, confusion_chart, line_chart
from utils.results import Result, duration

MAX_ROWS = 40  # of a table that stands open
MAX_MATRIX = 120  # classes; the matrix of more would be a large part of a page of 5 MB
NUM_CONFUSED = 12  # pairs of classes
SECONDS_A_FRAME = 0.12  # of the moving pictures
TITLES = {"torch": "PyTorch", "python": "Python", "cores": "CPU cores"}


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def heading(run: RunFolder) -> Markup:
    """What was trained on what."""
    options = run.options
    if "arch" not in options:
        return tag("p", f"{len(run.scores.class_names)} classes", class_="about")
    start = f"from {options.get('pretrained', 'scratch')}"
    if options.get("head_only"):
        start = f"a head on the frozen {options.get('pretrained') or options.get('resume')}"
    what = f"{options['arch']} on {options['dataset']}, split {options['split']}, {start}"
    return tag("p", f"{what}; {len(run.scores.class_names)} classes", class_="about")


def result_part(run: RunFolder) -> Markup:
    result = run.result
    low, high = result["top1_interval"]
    headline = tag(
        "p", tag("strong", percent(result["top1"])), " top-1 accuracy ",
        tag("span", f"95 % interval {low:.1f} to {high:.1f} %", class_="muted"), class_="headline",
    )  # fmt: skip
    skipped = f", {result['num_skipped']} skipped" if result["num_skipped"] else ""
    facts = {
        "top-5": percent(result["top5"]),
        "mean class accuracy": percent(result["mean_class_accuracy"]),
        "test videos": f"{result['num_videos']}{skipped}",
        "chance": percent(result["chance"]),
        "most frequent class": percent(result["majority"]),
    }
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    protocol = tag("p", tag("b", "How it was measured: "), result["protocol"], class_="protocol")
    ends = [tag("span", word) for word in ("0", "dotted: chance, most frequent class", "100 %")]
    axis = tag("div", scale(result), *ends, class_="axis")
    return section("Result", headline, axis, tag("dl", *listed, class_="facts"), protocol)


def scale(result: Result, color: int = 0) -> Markup:
    """0 to 100 %: the accuracy with its interval, and what needs no network."""
    low, high = result["top1_interval"]
    marks = [
        tag("i", class_=f"band b{color}", style=f"left:{low:.2f}%;width:{high - low:.2f}%"),
        tag("i", class_="level", style=f"left:{result['chance']:.2f}%"),
        tag("i", class_="level", style=f"left:{result['majority']:.2f}%"),
        tag("i", class_=f"dot b{color}", style=f"left:{result['top1']:.2f}%"),
    ]
    words = (
        f"top-1 {result['top1']:.1f} %, 95 % interval {low:.1f} to {high:.1f}, chance "
        f"{result['chance']:.1f} %, most frequent class {result['majority']:.1f} %"
    )
    return tag("div", *marks, class_="scale", role="img", aria_label=words)


def curve_lines(points: list[tuple[Metrics, float]]) -> dict[str, list[Line]]:
    """The windows of curves.png by title, each with its lines."""
    drawn: dict[str, tuple[list[float], list[float]]] = {}
    for metrics, epoch in points:
        for name, value in metrics.items():
            if curves.is_drawn(name, value):
                xs, ys = drawn.setdefault(name, ([], []))
                xs.append(epoch)
                ys.append(value)
    return {
        title: [
            Line(curve.label, curves.COLORS.index(curve.color), curve.dash != "solid", *drawn[name])
            for name, curve in window.items()
        ]
        for title, window in curves.windows(drawn).items()
        if window
    }


def chart(title: str, lines: list[Line], best: tuple[float, float] | None) -> Markup:
    """A picture of curves under its title and legend."""
    legend = [
        tag("span", tag("i", class_=f"key c{line.color}{' dashed' * line.dashed}"), line.label)
        for line in lines
    ]
    words = ", ".join(f"{line.label} ends at {line.ys[-1]:.4g}" for line in lines)
    name = f"{title} over epochs: {words}"
    drawn = line_chart(name, lines, best[0] if best else None)
    head = tag("figcaption", tag("b", title), tag("span", *legend, class_="legend"))
    return tag("figure", head, drawn)


def curves_part(run: RunFolder) -> Markup:
    if not run.points:
        return Markup()
    best, about = curves.best_epoch(run.points), ""
    if best:
        about = (
            f"The dashed line is the best epoch, {best[0]:g}, with {best[1]:.1f} % of the "
            "validation videos right (one center clip of each); best.pth has its weights."
        )
    lines = curve_lines(run.points)
    charts = (chart(title, window, best) for title, window in lines.items())
    return section("Curves", tag("div", *charts, class_="charts"), epochs_table(run), about=about)


def epochs_table(run: RunFolder) -> Markup:
    """The numbers behind the curves."""
    names = ["train/loss", "train/top1", "val/loss", "val/top1", "lr"]
    head = ["epoch", "train loss", "train top-1", "validation loss", "validation top-1", "rate"]
    rows = [[f"{m['epoch']:g}", *(readable(m.get(name)) for name in names)] for m in run.epochs]
    return folded("Numbers of each epoch", table("Numbers of each epoch", head, rows))


def folded(title: str, content: Markup) -> Markup:
    return tag("details", tag("summary", title), content)


def classes_part(run: RunFolder) -> Markup:
    rows = []
    for one in sorted(class_results(run), key=lambda one: one.accuracy):
        of_all = f"{one.correct} of {one.videos}"
        rows.append([one.name, bar(one), percent(one.accuracy), of_all, one.taken_for])
    head = ["class", "0 to 100 %", "right", "videos", "most often taken for"]
    parts = [table("Accuracy of each class", head, rows[:MAX_ROWS], class_="classes")]
    if rest := rows[MAX_ROWS:]:
        parts.append(folded(plural(len(rest), "other class"), table("The others", head, rest)))
    about = "The hardest first. The thin line is the 95 % interval."
    return section("Classes", *parts, about=about)


class ClassResult(NamedTuple):
    """A class of the test list."""

    name: str
    videos: int
    correct: int
    taken_for: str  # most often, and how many times

    @property
    def accuracy(self) -> float:
        return 100 * self.correct / self.videos


def class_results(run: RunFolder) -> list[ClassResult]:
    """Those that have videos, in their order."""
    names, found = run.scores.class_names, []
    for label, (name, counts) in enumerate(zip(names, matrix_of(run), strict=True)):
        wrong = counts.copy()
        wrong[label] = 0
        most = f"{names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        if counts.any():
            found.append(ClassResult(name, int(counts.sum()), int(counts[label]), most))
    return found


def bar(one: ClassResult, color: int = 0) -> Markup:
    low, high = wilson_interval(one.correct, one.videos)
    return tag(
        "div",
        tag("i", class_=f"fill b{color}", style=f"width:{one.accuracy:.1f}%"),
        tag("i", class_="whisker", style=f"left:{low:.1f}%;width:{high - low:.1f}%"),
        class_="bar",
    )


def matrix_of(run: RunFolder) -> np.ndarray:
    scores = run.scores
    predicted = scores.scores.argmax(axis=1)
    return confusion_matrix(scores.labels, predicted, len(scores.class_names))


def confusion_part(run: RunFolder) -> Markup:
    matrix, names = matrix_of(run), run.scores.class_names
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_CONFUSED].tolist()
    pairs = [divmod(i, len(names)) for i in order if wrong.flat[i]]
    rows = [[names[a], names[b], f"{wrong[a, b]} of {matrix[a].sum()}"] for a, b in pairs]
    parts = [table("What is confused most often", ["class", "taken for", "videos"], rows)]
    if not rows:
        parts = [tag("p", "Every video is right.")]
    if len(names) <= MAX_MATRIX:
        parts.insert(0, tag("div", confusion_chart(matrix, names), class_="scroll"))
        about = "Rows are the true classes, columns what they were taken for; counts are videos."
    else:
        about = f"The matrix of {len(names)} classes is in confusion.png and confusion.csv."
    return section("Confusion", tag("div", *parts, class_="confusion"), about=about)


def mistakes_part(run: RunFolder) -> Markup:
    mistakes = run.validation.get("mistakes", [])
    if not run.films:
        return Markup()
    figures = []
    for mistake, (jpeg, frames) in zip(mistakes, run.films, strict=True):
        source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        true, taken_for = mistake["class_name"], mistake["taken_for"]
        words = f"{plural(frames, 'frame')} of {mistake['path']}, in the order of time"
        seconds = max(SECONDS_A_FRAME * frames, 1.2)
        style = f"--frames:{frames};--seconds:{seconds:.2f}s"
        film = tag("div", tag("img", src=source, alt=words, style=style), class_="film", tabindex=0)
        caption = tag(
            "figcaption", tag("b", true), join(" taken for ", tag("b", taken_for)),
            f" ({100 * mistake['score']:.0f} %)", tag("code", breakable(mistake["path"])),
        )  # fmt: skip
        figures.append(tag("figure", film, caption))
    about = (
        f"The mistakes that the network was surest of in the validation after epoch "
        f"{run.validation['epoch']}, one center clip a video."
    )
    still = tag("input", type="checkbox", id="still"), tag("label", "hold them still", for_="still")
    films = tag("div", *figures, class_="films")
    return section("Surest mistakes", *still, films, about=about)


def options_part(run: RunFolder) -> Markup:
    if not run.options:
        return Markup()
    rows = [[name, as_typed(value), as_typed(usual)] for name, value, usual in run.differing]
    found = table("Options that differ from the recipe", ["option", "here", "recipe"], rows)
    every = [[name, as_typed(value)] for name, value in run.options.items()]
    rest = folded("All options", table("All options", ["option", "value"], every))
    about = "" if rows else "All options are those of the recipe."
    return section("Options", found if rows else "", rest, about=about)


def machine_rows(run: RunFolder) -> Iterator[tuple[str, str]]:
    """Names and values: when, how long, how fast, on what."""
    if run.times:
        first, last = run.times
        yield "from", first
        yield "to", last
    if run.epochs:
        steps = np.diff([0, *(m["step"] for m in run.epochs)])
        times = [m["time/step"] for m in run.epochs]
        newest, hours = run.epochs[-1], float(steps @ times) / 3600
        yield "training steps", f"{newest['step']:g} in {duration(hours)}"
        parts = {"data": "waiting for data", "copy": "copying", "compute": "computing"}
        for name, words in parts.items():
            if (seconds := newest.get(f"time/{name}")) is not None:
                yield words, f"{100 * seconds / newest['time/step']:.0f} % of the time"
        if "clips_per_s" in newest:
            yield "speed", f"{newest['clips_per_s']:.1f} clips/s"
        if "memory_gb" in newest:  # not every system says it
            yield "memory", f"{newest['memory_gb']:.1f} GiB at most"
    for name, value in run.machine.items():
        if value is not None:
            yield (
                {"torch": "PyTorch", "python": "Python", "cores": "CPU cores"}.get(name, name),
                str(value),
            )


def machine_part(run: RunFolder) -> Markup:
    rows = list(map(list, machine_rows(run)))
    about = "Times are those of training, without validations; percentages are of the last epoch."
    about = about if run.epochs else ""
    return section("Time and machine", table("", [], rows), about=about)
