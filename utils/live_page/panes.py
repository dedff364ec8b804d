"""What stands in a window of the page, as visdom and plotly want it."""

import base64
import contextlib
import html
import json
import math
import re

from utils.curves import BLUE, Curve
from utils.live_page.run_files import Folder, as_typed, readable

FROM_ZERO = ("learning rate", "seconds per step")  # or plotly draws a constant 0.01 on -1 ... 1
# in the right margin, or it hides the legend; without two that only select points
MODEBAR = {"orientation": "v", "remove": ["lasso2d", "select2d"]}
MAX_LABELS = 20  # classes; with more, their names beside the confusion matrix would overlap
MAX_NUMBERS = 12  # classes; with more, the numbers in its cells would
MAX_POINTS = 1000  # per curve and post; the run folder keeps all of them
MAX_MARKERS = 100  # points; a lone point needs one, a long line gets visdom's smoothing without


def curves_pane(title: str, traces: list[dict]) -> dict:
    """Curves over epochs; `title` also names the y axis."""
    layout = {
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "modebar": MODEBAR,
        "margin": {"l": 65, "r": 35, "t": 10, "b": 40},
        "xaxis": {"title": "epoch"},
        "yaxis": {
            "title": title,
            "exponentformat": "e",
            "rangemode": "tozero" if title in FROM_ZERO else "normal",
        },
    }
    return {"data": traces, "layout": layout}


def trace(curve: Curve, epochs: list[float], values: list[float]) -> dict:
    """One curve of a window, which plotly calls a trace."""
    return {
        "type": "scatter",
        "name": curve.label,
        "mode": "lines+markers" if len(epochs) <= MAX_MARKERS else "lines",
        "line": {"color": curve.color, "dash": curve.dash},
        # visdom's smoothing button kills the page if marker.line is missing or empty
        "marker": {"size": 5, "line": {"width": 0}},
        "x": thin(epochs),
        "y": thin(values),
    }


def thin(values: list[float]) -> list[float | None]:
    """At most `MAX_POINTS` of the values, evenly, the first and the last among them."""
    stride = max(math.ceil(len(values) / (MAX_POINTS - 1)), 1)
    kept = values[::stride]
    if (len(values) - 1) % stride:
        kept.append(values[-1])
    return [finite(value) for value in kept]


def finite(value: float) -> float | None:
    """One Infinity, which is no JSON, breaks the whole page."""
    return value if math.isfinite(value) else None


def text_pane(line: str) -> dict:
    return _html_pane(html.escape(line))


def tables_pane(
    numbers: dict,
    options: dict | None = None,
    usual: dict | None = None,
    folder: Folder | None = None,
) -> dict:
    """Numbers, beside them options, and hidden among them whose they are.

    Args:
        usual: the values in the recipe of those options that differ from it, which come first.
    """
    options, usual = options or {}, usual or {}
    differing = {
        name: f"{as_typed(options.get(name))} (recipe: {as_typed(value)})"
        for name, value in usual.items()
    }
    rest = {name: value for name, value in options.items() if name not in usual}
    beside = _html_table(differing, "not as in the recipe") + _html_table(rest, "other options")
    mark = html.escape(json.dumps(folder))
    return _html_pane(
        f'<div style="display: flex; font-size: 12px; line-height: 1.3" data-folder="{mark}">'
        # what is too long breaks in the second column alone
        f'<div>{_html_table(numbers)}</div><div style="flex: 1">{beside}</div></div>'
    )


def folder_of(window: dict) -> Folder | None:
    """The folder of the run whose tables a window shows; None: no tables, or of a version that did
    not say."""
    mark = re.search('data-folder="([^"]*)"', str(window.get("content")))
    with contextlib.suppress(ValueError, TypeError):  # something else by this title
        return Folder(*json.loads(html.unescape(mark[1]))) if mark else None
    return None


def _html_pane(content: str) -> dict:
    return {"data": [{"type": "text", "content": content}]}


def _html_table(values: dict, title: str = "") -> str:
    if not values:
        return ""
    # names and values are text, whatever they look like
    name, value = (f'<td style="padding: 0 0 0 6px; {s}">' for s in ("", "overflow-wrap: anywhere"))
    rows = "".join(
        f"<tr>{name}{html.escape(key)}</td>{value}<b>{html.escape(readable(one))}</b></td></tr>"
        for key, one in values.items()
    )
    head = f'<tr><td colspan="2" style="padding: 2px 0 0 6px; color: #777">{title}</td></tr>'
    return f'<table style="vertical-align: top">{head if title else ""}{rows}</table>'


def picture_pane(jpeg: bytes, words: str) -> dict:
    """A picture as wide as the window, with words for those who cannot see it.

    As HTML, since visdom's own window of a picture leaves a band free above it.
    """
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    style = "display: block; width: 100%"
    return _html_pane(f'<img src="{source}" alt="{html.escape(words)}" style="{style}">')


def confusion_pane(counts: list[list[int]], class_names: list[str]) -> dict:
    """How many percent of each class, a row of `counts`, were taken for which class."""
    totals = [sum(row) or math.nan for row in counts]  # a class without videos has no percentages
    percent = [
        [finite(round(100 * n / total, 1)) for n in row]
        for row, total in zip(counts, totals, strict=True)
    ]
    data = {
        "type": "heatmap",
        "z": percent,
        "x": class_names,
        "y": class_names,
        "zmin": 0,
        "zmax": 100,
        "colorscale": [[0, "white"], [1, BLUE]],
        "showscale": False,  # it would lie under the buttons
        "hovertemplate": "%{y}, taken for %{x}: %{z:.0f} %<extra></extra>",
    }
    if len(class_names) <= MAX_NUMBERS:
        data["texttemplate"] = "%{z:.0f}"
    axis = {
        "type": "category",  # classes may be named by numbers
        "showticklabels": len(class_names) <= MAX_LABELS,
        "tickfont": {"size": 10},
        "automargin": True,
    }
    layout = {
        "margin": {"l": 40, "r": 35, "t": 10, "b": 40},
        "modebar": MODEBAR,
        "xaxis": {"title": "taken for", "tickangle": -45, **axis},
        "yaxis": {"title": "class", "autorange": "reversed", **axis},  # the first class on top
    }
    return {"data": [data], "layout": layout}
