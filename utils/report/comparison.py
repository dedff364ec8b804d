"""A page that puts runs side by side, and says whether their difference is more than chance."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from config import Curves, UserError
from utils.compare import compare_sides, conclusion
from utils.curves import is_drawn
from utils.live_page.run_files import as_typed
from utils.report.markup import Markup, join, section, table, tag
from utils.report.page import write_page
from utils.report.parts import bar, chart, class_results, machine_rows, percent, scale
from utils.report.run_folder import RunFolder, read_run
from utils.report.svg import Line

NUM_COLORS = 10  # in style.css
COMPARED = {  # what is drawn of all runs in one picture
    "val/top1": "validation top-1 (%)",
    "val/loss": "validation loss",
    "train/top1": "train top-1 (%)",
    "train/loss": "train loss",
}


def write_comparison(
    folders: Sequence[Path], path: Path, regex: re.Pattern[str] | None
) -> list[str]:
    """Writes the page; returns what it says of each run after the first, compared with that.

    Raises:
        UserError: one of them has no scores, or a file is damaged.
    """
    runs = list(map(read_run, folders))
    if len({run.name for run in runs}) < len(runs):
        for run, folder in zip(runs, folders, strict=True):
            run.name = str(folder)
    found = [paired(runs[0], run, regex) for run in runs[1:]]
    title = " and ".join(run.name for run in runs)
    write_page(
        path,
        title,
        tag("header", tag("h1", title)),
        results_part(runs),
        section("Is the difference more than chance?", *(part for part, _ in found)),
        curves_part(runs),
        classes_part(runs),
        options_part(runs),
        machine_part(runs),
    )
    return [sentence for _, sentence in found]


def key(number: int) -> Markup:
    """The color of a run."""
    return tag("i", class_=f"swatch b{number % NUM_COLORS}")


def results_part(runs: Sequence[RunFolder]) -> Markup:
    rows = []
    for i, run in enumerate(runs):
        result = run.result
        low, high = result["top1_interval"]
        rows.append(
            [
                join(key(i), run.name),
                tag("b", percent(result["top1"])),
                f"{low:.1f} to {high:.1f}",
                percent(result["top5"]),
                percent(result["mean_class_accuracy"]),
                result["num_videos"],
                scale(result, i % NUM_COLORS),
            ]
        )
    head = ["run", "top-1", "95 % interval", "top-5", "class mean", "videos", "0 to 100 %"]
    protocols = dict.fromkeys(run.result["protocol"] for run in runs)
    measured = [
        tag("p", tag("b", "How it was measured: "), protocol, class_="protocol")
        if len(protocols) == 1
        else tag("p", tag("b", f"{named(runs, protocol)}: "), protocol, class_="protocol")
        for protocol in protocols
    ]
    found = table("Accuracy on the test list", head, rows, class_="results")
    return section("Results", found, *measured)


def named(runs: Iterable[RunFolder], protocol: str) -> str:
    return ", ".join(run.name for run in runs if run.result["protocol"] == protocol)


def paired(a: RunFolder, b: RunFolder, regex: re.Pattern[str] | None) -> tuple[Markup, str]:
    """What utils/compare.py finds, as a part of the page and as a sentence."""
    try:
        found, test = compare_sides(a.scores, b.scores, a.name, b.name, regex)
    except UserError as error:
        sentence = f"{b.name} cannot be compared with {a.name} video by video: {error}"
        return tag("p", sentence), sentence
    low, high = found.interval
    sentence = conclusion(found, a.name, b.name).removeprefix("conclusion: ")
    facts = {
        f"{b.name} - {a.name}": f"{found.difference:+.1f} points",
        "95 % interval": f"{low:+.1f} to {high:+.1f}",
        test: f"{found.p:.2g}",
        f"only {a.name} right": found.only_a,
        f"only {b.name} right": found.only_b,
    }
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    said = tag("p", tag("b", f"{sentence}."))
    return join(said, tag("dl", *listed, class_="facts")), sentence


def curves_part(runs: Sequence[RunFolder]) -> Markup:
    charts = []
    for name, title in COMPARED.items():
        lines = []
        for i, run in enumerate(runs):
            points = [(epoch, m[name]) for m, epoch in run.points if is_drawn(name, m.get(name))]
            if points:
                lines.append(Line(run.name, i % NUM_COLORS, False, *zip(*points, strict=True)))
        if lines:
            charts.append(chart(title, lines, None))
    return section("Curves", tag("div", *charts, class_="charts")) if charts else Markup()


def classes_part(runs: Sequence[RunFolder]) -> Markup:
    """Those that all runs have, by how far the runs are apart, with a bar for each run."""
    of_runs = [{one.name: one for one in class_results(run)} for run in runs]
    rows = []
    for name in of_runs[0]:
        found = [of_run[name] for of_run in of_runs if name in of_run]
        if len(found) == len(runs):
            shares = [one.accuracy for one in found]
            bars = [bar(one, i % NUM_COLORS) for i, one in enumerate(found)]
            rows.append((max(shares) - min(shares), [name, join(*bars), *map(percent, shares)]))
    rows = [row for _, row in sorted(rows, key=lambda one: -one[0])]
    if not rows:
        return Markup()
    about = "Those in which the runs differ most come first. The thin lines are 95 % intervals."
    head = ["class", "0 to 100 %", *(join(key(i), run.name) for i, run in enumerate(runs))]
    found = table("Accuracy of each class", head, rows, class_="classes compared")
    return section("Classes", found, about=about)


def options_part(runs: Sequence[RunFolder]) -> Markup:
    ignored = {"name", "resume"} | {f.name for f in fields(Curves)}  # no matter of the result
    names = dict.fromkeys(name for run in runs for name in run.options if name not in ignored)
    rows = [[name, *(as_typed(run.options.get(name)) for run in runs)] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    head = ["option", *(run.name for run in runs)]
    if not rows:
        return section("Options", tag("p", "The runs have the same options."))
    return section("Options", table("Options that differ between the runs", head, rows))


def machine_part(runs: Sequence[RunFolder]) -> Markup:
    found = [dict(machine_rows(run)) for run in runs]
    names = dict.fromkeys(name for facts in found for name in facts)
    rows = [[name, *(facts.get(name, "-") for facts in found)] for name in names]
    head = ["run", *(run.name for run in runs)]
    return section("Time and machine", table("", head, rows))
