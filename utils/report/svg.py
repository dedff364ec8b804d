"""Pictures of a report as SVG: curves and the confusion matrix. Colors are those of style.css."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.report.markup import Markup, tag

WIDTH, HEIGHT = 300, 200  # of curves, in pixels where the page has room
RIGHT, TOP, BOTTOM = 12, 10, 34  # margins around them; on the left stand numbers
MAX_POINTS = 400  # of a curve
MAX_DOTS = 40  # points that are marked one by one
MAX_NUMBERS = 30  # classes; with more, counts in the cells would be too small to read
MAX_NAME = 24  # letters of a class beside the matrix


class Line(NamedTuple):
    """A curve."""

    label: str
    color: int  # number of a color in style.css
    dashed: bool
    xs: Sequence[float]
    ys: Sequence[float]


def line_chart(name: str, lines: Sequence[Line], best: float | None) -> Markup:
    """Curves over epochs.

    Args:
        name: for those who hear the page; the words for all stand above the picture.
        best: an epoch to mark.
    """
    xs = [x for line in lines for x in line.xs]
    ys = [y for line in lines for y in line.ys]
    y_ticks = ticks(min(*ys, 0), max(*ys, 0), 5)
    low, high, right = y_ticks[0], y_ticks[-1], max(xs) or 1
    start = 10 + 7 * max(len(f"{y:g}") for y in y_ticks)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (WIDTH - start - RIGHT) * x / right
        down = (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)
        return round(start + across, 1), round(TOP + down, 1)

    parts = []
    for y in y_ticks:
        _, height = place(0, y)
        parts.append(tag("path", d=f"M{start} {height}H{WIDTH - RIGHT}", class_="grid"))
        parts.append(tag("text", f"{y:g}", x=start - 6, y=height + 4, text_anchor="end"))
    for x in ticks(0, right, 6):
        if x <= right and x == int(x):
            left, _ = place(x, low)
            parts.append(tag("text", f"{x:g}", x=left, y=HEIGHT - 18, text_anchor="middle"))
    middle = (start + WIDTH - RIGHT) / 2
    parts.append(tag("text", "epoch", x=middle, y=HEIGHT - 3, text_anchor="middle"))
    if best is not None:
        left, _ = place(best, low)
        parts.append(tag("path", d=f"M{left} {TOP}V{HEIGHT - BOTTOM}", class_="best"))
    for line in lines:
        stride = math.ceil(len(line.xs) / MAX_POINTS)  # the last point, the newest, is kept
        points = [place(*point) for point in list(zip(line.xs, line.ys, strict=True))[::-stride]]
        drawn = tag("polyline", points=" ".join(f"{x},{y}" for x, y in points))
        # a lone point would not be seen otherwise
        dots = [tag("circle", cx=x, cy=y, r=2.2) for x, y in points if len(points) <= MAX_DOTS]
        kind = f"c{line.color}{' dashed' if line.dashed else ''}"
        parts.append(tag("g", drawn, *dots, class_=kind))
    return picture(name, WIDTH, HEIGHT, parts)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, the first not above `low` and the last not below `high`."""
    rough = (high - low) / count or 1
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.6g}") for i in range(first, max(last, first + 1) + 1)]


def confusion_chart(matrix: np.ndarray, class_names: Sequence[str]) -> Markup:
    """The share of each class, a row, that was taken for what; it grows with the classes.

    Args:
        matrix: (classes, classes), videos.
    """
    num_classes = len(class_names)
    cell = 26 if num_classes <= 12 else 22 if num_classes <= MAX_NUMBERS else 14
    names = [n if len(n) <= MAX_NAME else f"{n[: MAX_NAME - 3]}..." for n in class_names]
    left = 14 + 7 * max(map(len, names))  # pixels for the names
    side, top = cell * num_classes, 4
    parts = [tag("rect", x=left, y=top, width=side, height=side, class_="frame")]
    for i, name in enumerate(names):
        along = round(cell * (i + 0.5) + 4)
        parts.append(tag("text", name, x=left - 6, y=top + along, text_anchor="end"))
        turned = f"translate({left + along} {top + side + 8}) rotate(-90)"
        parts.append(tag("text", name, transform=turned, text_anchor="end"))
    totals = matrix.sum(axis=1)
    for row, column in np.argwhere(matrix).tolist():
        count, total = int(matrix[row, column]), int(totals[row])
        x, y, share = left + cell * column, top + cell * row, count / total
        words = f"{class_names[row]}, taken for {class_names[column]}: {count} of {total}"
        kind, opacity = "right" if row == column else "wrong", f"{0.1 + 0.9 * share**0.5:.2f}"
        square = {"x": x, "y": y, "width": cell - 1, "height": cell - 1, "fill_opacity": opacity}
        inside = [tag("title", words), tag("rect", class_=kind, **square)]
        if num_classes <= MAX_NUMBERS:
            number = {"x": x + cell // 2, "y": y + cell // 2 + 4, "text_anchor": "middle"}
            inside.append(tag("text", count, class_="on" if share > 0.3 else "off", **number))
        parts.append(tag("g", *inside))
    name = "Confusion matrix: a row for each true class, a column for what it was taken for"
    return picture(name, left + side + 4, left + side + 4, parts, own_size=True)


def picture(
    name: str, width: int, height: int, parts: Sequence[Markup], own_size: bool = False
) -> Markup:
    """The picture in its own size, or as wide as there is room."""
    size = {"width": width, "height": height} if own_size else {}
    box = f"0 0 {width} {height}"
    return tag("svg", tag("title", name), *parts, role="img", viewBox=box, **size)
