"""Which numbers of a run are drawn where, and in which color: on the live page and in curves.png.

Any number that is logged is drawn, without an entry here. `train/NAME` and `val/NAME` share the
window NAME; `PREFIX/NAME` is one curve of the window PREFIX; a NAME alone has a window of its own.
"""

from collections.abc import Iterable
from numbers import Real
from typing import NamedTuple

# fixed, so that a color means the same in every window
BLUE, ORANGE, GREEN = "#1f77b4", "#ff7f0e", "#2ca02c"
COLORS = (  # of curves that have none of their own, in this order
    *(BLUE, ORANGE, GREEN, "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)


class Curve(NamedTuple):
    """How a number is drawn."""

    label: str  # in the legend
    color: str
    dash: str = "solid"  # or "dot", as plotly calls them


WINDOWS = {  # title, which also names the y axis: what every run logs
    "loss": {"train/loss": Curve("train", BLUE), "val/loss": Curve("validation", ORANGE)},
    "accuracy (%)": {
        "train/top1": Curve("train top-1", BLUE),
        "val/top1": Curve("validation top-1", ORANGE),
        "train/top5": Curve("train top-5", BLUE, "dot"),
        "val/top5": Curve("validation top-5", ORANGE, "dot"),
        "val/mean_class_accuracy": Curve("validation mean class", GREEN),
    },
    "learning rate": {"lr": Curve("learning rate", BLUE)},
    "seconds per step": {
        "time/data": Curve("data", ORANGE),
        "time/copy": Curve("copy", GREEN),
        "time/compute": Curve("compute", BLUE),
    },
}
WINDOW_OF = {name: title for title, curves in WINDOWS.items() for name in curves}
PREFIX_TITLES = {"time": "seconds per step"}  # where a prefix is no title
PARTS = {"train": Curve("train", BLUE), "val": Curve("validation", ORANGE)}
# titles of the page's other windows, which no window of curves can have
RUN, CONFUSION, MISTAKES = "run", "confusion (%)", "mistakes"
NOT_DRAWN = {
    *("epoch", "step"),  # the place of a point, not its height
    "time/step",  # the sum of the three times that are drawn
    # these hardly change during a run: the page's table shows the newest
    *("clips_per_s", "frames_per_s", "memory_gb", "utilization"),
}


def is_drawn(name: str, value: object) -> bool:
    """Whether a logged value is a point of a curve."""
    return isinstance(value, Real) and name not in NOT_DRAWN


def window_title(name: str) -> str:
    """The title of the window in which a number is drawn."""
    if name in WINDOW_OF:
        return WINDOW_OF[name]
    prefix, _, rest = name.partition("/")
    title = rest if rest and prefix in PARTS else PREFIX_TITLES.get(prefix, prefix)
    return f"{title} (curves)" if title in (RUN, CONFUSION, MISTAKES) else title


def windows(names: Iterable[str]) -> dict[str, dict[str, Curve]]:
    """Windows in order, each with its curves by the names of their numbers.

    Those of every run come first, whether or not they have a curve by now. The order in which the
    names come changes nothing, so that a run looks the same live and drawn from its files.
    """
    names = set(names)
    placed = {
        title: {name: curve for name, curve in curves.items() if name in names}
        for title, curves in WINDOWS.items()
    }
    for name in sorted(names - WINDOW_OF.keys(), key=lambda name: (not _part(name), name)):
        curves = placed.setdefault(window_title(name), {})
        taken = {curve.color for curve in curves.values()}
        free = (color for color in COLORS if color not in taken)
        color = next(free, COLORS[len(curves) % len(COLORS)])
        curves[name] = _part(name) or Curve(name.partition("/")[2] or name, color)
    return placed


def best_epoch(points: Iterable[tuple[dict, float]]) -> tuple[float, float] | None:
    """The epoch of the best validation and its top-1: the first of several, as best.pth keeps."""
    found = [(epoch, values.get("val/top1")) for values, epoch in points]
    found = [(epoch, top1) for epoch, top1 in found if isinstance(top1, int | float)]
    return max(found, key=lambda one: one[1], default=None)


def _part(name: str) -> Curve | None:
    prefix, slash, _ = name.partition("/")
    return PARTS.get(prefix) if slash else None
