"""How time and memory grow with the work: curves, and their slopes on log axes.

    python benchmarks/growth.py [--only clip_len list] [--repeats 2] [--threads 2]
    python benchmarks/growth.py --quick            # tiny sizes, to see that it runs
    python benchmarks/growth.py --save             # JSON and pictures, into benchmarks/results

Each point is measured in a process of its own, after the same work once before, and is the median
of repeats, all points in turn. A slope of 1 means twice the time for twice the work. Small work has
costs that do not grow, so slopes are fitted to the upper half of the points. Memory is what the
work needs beyond weights and gradients. Networks run training steps in float32 on one clip.
"""

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from benchmarks.apart import apart
from benchmarks.models import step_cost
from benchmarks.points import list_cost, processes_cost, views_cost

# what grows more than in proportion, by nature: every position attends to all others
ATTENTION = ("resnet3d i3d nl5", "1 to 2")


class Scale(NamedTuple):
    """What all sweeps have in common."""

    crop: int  # pixels
    steps: int  # of training, where processes are compared


FULL, QUICK = Scale(crop=112, steps=6), Scale(crop=64, steps=1)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Some work of several sizes."""

    title: str  # of the size
    call: Callable[[str, int, Scale], tuple]  # name and size -> function and its arguments
    sizes: dict[str, list[int]]  # by name of what is measured
    quick: dict[str, list[int]]
    slopes: dict[str, int]  # expected, by what is measured
    power: int = 1  # work grows with this power of the size
    attends: bool = False  # do more positions come with the size?


LENGTHS = [8, 16, 32, 64, 128, 256]
OF_NETWORKS = {"seconds": 1, "MB": 1}
SWEEPS = {
    "clip_len": Sweep(
        title="frames of a clip",
        call=lambda name, size, scale: (step_cost, name, (1, 3, size, scale.crop, scale.crop)),
        sizes={
            "i3d": LENGTHS,
            "s3d": LENGTHS,
            "resnet3d i3d": LENGTHS[:-1],  # more would take minutes
            "resnet3d i3d nl5": LENGTHS[:-1],
            "tsn resnet50": LENGTHS,  # of so many segments
        },
        quick={"resnet3d i3d nl5": [8, 16]},
        slopes=OF_NETWORKS,
        attends=True,
    ),
    "crop_size": Sweep(
        title="crop size (work grows with its square)",
        call=lambda name, size, scale: (step_cost, name, (1, 3, 8, size, size)),
        sizes=dict.fromkeys(["i3d", "s3d", "resnet3d i3d", "tsn resnet50"], [112, 160, 224, 320]),
        quick={"i3d": [64, 96]},
        slopes=OF_NETWORKS,
        power=2,
    ),
    "batch_size": Sweep(
        title="clips of a batch",
        call=lambda name, size, scale: (step_cost, name, (size, 3, 8, scale.crop, scale.crop)),
        sizes=dict.fromkeys(["i3d", "s3d", "resnet3d i3d", "tsn resnet50"], [1, 2, 4, 8, 16]),
        quick={"i3d": [1, 2]},
        slopes=OF_NETWORKS,
    ),
    "list": Sweep(
        title="entries of a list",
        call=lambda name, size, scale: (list_cost, size),
        sizes={"training list": [10**i for i in range(2, 7)]},
        quick={"training list": [100, 10_000]},
        slopes={"start-up s": 1, "check s": 0, "MB a worker": 0},
    ),
    "processes": Sweep(
        title="processes",
        call=lambda name, size, scale: (processes_cost, size, *scale),
        sizes={"i3d, 2 clips each": [1, 2]},
        quick={"i3d, 2 clips each": [1, 2]},
        slopes={"clips/s": 1, "efficiency": 0},
    ),
    "views": Sweep(
        title="views of a video",
        call=lambda name, size, scale: (views_cost, size, scale.crop),
        sizes={"i3d, 2 at a time": [1, 2, 5, 10, 20, 30]},
        quick={"i3d, 2 at a time": [2, 4]},
        slopes={"seconds": 1, "MB": 0},
    ),
}


def measure(sweep: Sweep, opts: argparse.Namespace) -> list[dict]:
    """A row for each curve."""
    sizes = sweep.quick if opts.quick else sweep.sizes
    points = [(name, size) for name in sizes for size in sizes[name]]
    found = {point: [] for point in points}
    scale = QUICK if opts.quick else FULL
    for repeat in range(opts.repeats):
        for point in points:
            print(f"{sweep.title}: {point}, {repeat + 1} of {opts.repeats}", file=sys.stderr)
            found[point].append(apart(*sweep.call(*point, scale), threads=opts.threads))
    rows = []
    for name, of_name in sizes.items():
        for measured, expected in sweep.slopes.items():
            repeats = ([one[measured] for one in found[name, size]] for size in of_name)
            values = [float(f"{statistics.median(one):.3g}") for one in repeats]
            attends = sweep.attends and name == ATTENTION[0]
            rows.append(
                {
                    "grows": sweep.title,
                    "of": name,
                    "sizes": of_name,
                    "measured": measured,
                    "values": values,
                    "slope": slope([size**sweep.power for size in of_name], values),
                    "expected": ATTENTION[1] if attends else str(expected),
                }
            )
    return rows


def slope(sizes: list[float], values: list[float]) -> float:
    """Of a straight line through the upper half of the points, at least two, on log axes."""
    first = min(len(sizes) // 2, len(sizes) - 2)
    x, y = ([math.log(value) for value in column[first:]] for column in (sizes, values))
    return statistics.linear_regression(x, y).slope


def draw(sweep: Sweep, rows: list[dict], path: Path) -> None:
    """A panel for each thing measured; dashed from the last point: the slope that is expected."""
    from matplotlib.figure import Figure  # takes half a second

    figure = Figure(figsize=(4.5 * len(sweep.slopes), 4), layout="constrained")
    panels = figure.subplots(1, len(sweep.slopes), squeeze=False)[0]
    for panel, (measured, expected) in zip(panels, sweep.slopes.items(), strict=True):
        for i, row in enumerate(row for row in rows if row["measured"] == measured):
            sizes = [size**sweep.power for size in row["sizes"]]
            last = row["values"][-1]
            ideal = [last * (size / sizes[-1]) ** expected for size in sizes]
            panel.plot(
                sizes, row["values"], "o-", c=f"C{i}", label=f"{row['of']}: {row['slope']:.2f}"
            )
            panel.plot(sizes, ideal, "--", c=f"C{i}", lw=1, alpha=0.6)
        panel.set(xscale="log", yscale="log", xlabel=sweep.title, ylabel=measured)
        sizes = max((row["sizes"] for row in rows), key=len)
        panel.set_xticks([size**sweep.power for size in sizes], [f"{size:,}" for size in sizes])
        panel.xaxis.minorticks_off()
        low, high = panel.get_ylim()
        if high < 10 * low:  # what hardly changes is to look so
            middle = math.sqrt(low * high)
            panel.set_ylim(middle / 10**0.5, middle * 10**0.5)
        title = f"slopes of the upper half; dashed: slope {expected}"
        panel.set_title(title, fontsize=10)
        panel.legend(fontsize=8)
        panel.grid(which="both", alpha=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once")
    parser.add_argument("--repeats", type=results.positive, default=2)
    parser.add_argument(
        "--threads",
        type=results.positive,
        default=len(os.sched_getaffinity(0)),
        help="of each process (default: one a core; 1 for `processes`)",
    )
    results.add_save(parser)
    opts = parser.parse_args()
    if opts.quick:
        parser.set_defaults(repeats=1)
        opts = parser.parse_args()
    rows = []
    for name in opts.only:
        of_sweep = measure(SWEEPS[name], opts)
        if opts.save:
            draw(SWEEPS[name], of_sweep, opts.save / f"growth_{name}.png")
        rows += of_sweep
    results.finish("growth", opts, rows)


if __name__ == "__main__":
    main()
