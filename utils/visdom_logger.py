"""Live curves in visdom that can neither slow down nor stop a run.

`log` appends to lists; a daemon thread posts whole windows. Whole windows because visdom's own
append costs more the more points it holds (2 s each at 100 000), and because a server that comes
back empty then gets everything. Only the server needs visdom; this file needs the standard library.
"""

import atexit
import base64
import contextlib
import html
import http.client
import math
import re
import socket
import threading
import time
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from urllib.parse import quote

from utils import visdom_assets, visdom_server

WINDOWS = {  # title, which is also the y axis: metrics; any other metric is ignored
    "loss": ("train/loss", "val/loss"),
    "accuracy (%)": ("train/top1", "val/top1", "train/top5", "val/top5"),
    "learning rate": ("lr",),
    "seconds per step": ("time/data", "time/copy", "time/compute"),
}
RUN, CONFUSION, MISTAKES = "run", "confusion (%)", "mistakes"  # titles of the other windows
FROM_ZERO = ("learning rate", "seconds per step")  # or plotly draws a constant 0.01 on -1 ... 1
ORDER = (RUN, *WINDOWS, CONFUSION, MISTAKES)
# fixed, so that a color means the same in every window
BLUE, ORANGE, GREEN = "#1f77b4", "#ff7f0e", "#2ca02c"
TRACES = {  # metric: name in the legend, color, dash
    "train/loss": ("train", BLUE, "solid"),
    "val/loss": ("validation", ORANGE, "solid"),
    "train/top1": ("train top-1", BLUE, "solid"),
    "val/top1": ("validation top-1", ORANGE, "solid"),
    "train/top5": ("train top-5", BLUE, "dot"),
    "val/top5": ("validation top-5", ORANGE, "dot"),
    "lr": ("learning rate", BLUE, "solid"),
    "time/data": ("data", ORANGE, "solid"),
    "time/copy": ("copy", GREEN, "solid"),
    "time/compute": ("compute", BLUE, "solid"),
}
WINDOW_OF = {metric: title for title, metrics in WINDOWS.items() for metric in metrics}
SIZE = {"width": 405, "height": 260}  # pixels; two rows of three fit a screen of 1280 x 800
LARGE = {"width": 820, "height": 400}  # two columns, for the picture of utils.mistakes
# in the right margin, or it hides the legend; without two that only select points
MODEBAR = {"orientation": "v", "remove": ["lasso2d", "select2d"]}
MAX_LABELS = 20  # classes; with more, their names beside the confusion matrix would overlap
MAX_NUMBERS = 12  # classes; with more, the numbers in its cells would
MAX_POINTS = 1000  # per trace and post; the run folder keeps all of them
MAX_MARKERS = 100  # points; a lone point needs one, a long line gets visdom's smoothing without

PERIOD = 1.0  # seconds between two looks for news
STARTING = 0.25  # the same, while a server comes up
TIMEOUT = 3.0  # seconds for one post
MAX_WAIT = 30.0  # seconds between two tries to reach a server
START_LIMIT = 30.0  # seconds for a server to come up: its imports are slow on a cold disk
GOES_ON, TRIES = "curves go to the run folder", "will keep trying"
CLOSE_LIMIT = 4.0  # seconds; a hung server must not hold up the end of a run


class NotVisdom(Exception):
    """Another program answers on the port."""


class VisdomLogger:
    """Curves of one run on visdom's page, in an environment of its own.

    Args:
        env: name of the run.
        env_path: folder for the data of a server that is started here.
        autostart: start a server if none answers and `server` is this machine.
        say: receives each sentence for the user, once; called from another thread.
    """

    def __init__(
        self,
        env: str,
        server: str = "127.0.0.1",
        port: int = 8097,
        env_path: Path = visdom_server.ENV_PATH,
        autostart: bool = True,
        say=print,
    ):
        self.env = re.sub(r"[^\w.-]+", "_", env)  # part of an address and of a file's name
        self.server, self.port = server.removeprefix("http://").rstrip("/"), port
        self.env_path = Path(env_path).resolve()  # the working folder may change later
        self._address = f"{self.server}:{port}"
        self.autostart = autostart and self.server in ("127.0.0.1", "localhost")
        self._say, self._told = say, set()
        self._points = {metric: ([], []) for metric in TRACES}  # steps, values
        # title: makes what stands in a window that is no plot of curves; the thread has the time
        self._panes: dict[str, Callable[[], dict]] = {}
        self._stale = set()  # titles of the windows that have news
        self._lock = threading.Lock()  # of the three above
        self._connected = self._was_connected = self._posted = False
        self._process, self._start_deadline = None, 0.0
        self._closing = threading.Event()
        self._start_server()
        self._thread = threading.Thread(target=self._run, name="visdom", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def url(self) -> str:
        """Address of this run's page."""
        return f"http://{self._address}/env/{quote(self.env)}"

    @property
    def shown(self) -> bool:
        """Whether the server has curves of this run."""
        return self._connected and self._posted

    def log(self, metrics: dict[str, float | int | str | None], step: float) -> None:
        """Add a point at `step` (in epochs) to the curve of each metric that has a window."""
        with self._lock:
            for metric, value in metrics.items():
                if metric in WINDOW_OF and isinstance(value, Real):
                    steps, values = self._points[metric]
                    steps.append(float(step))
                    values.append(float(value))
                    self._stale.add(WINDOW_OF[metric])

    def tables(self, title: str, *tables: dict) -> None:
        """Show tables of names and values side by side, in place of what stood there."""
        copies = [dict(table) for table in tables]
        # or a long value in the second table would push it below the first
        start, end = '<div style="white-space: nowrap">', "</div>"
        self._show(title, lambda: text_pane(start + "".join(map(html_table, copies)) + end))

    def text(self, title: str, line: str) -> None:
        """Show a line of plain text, in place of what stood there."""
        self._show(title, lambda: text_pane(html.escape(line)))

    def picture(self, title: str, jpeg: bytes) -> None:
        """Show a picture, in place of what stood there."""
        self._show(title, lambda: picture_pane(jpeg))

    def confusion(self, title: str, counts: list[list[int]], class_names: list[str]) -> None:
        """Show of each class (a row of `counts`) how many percent were taken for which."""
        self._show(title, lambda: confusion(counts, class_names))

    def _show(self, title: str, pane: Callable[[], dict]) -> None:
        with self._lock:
            self._panes[title] = pane
            self._stale.add(title)

    def wait_until_shown(self) -> bool:
        """Wait for the server to have all that is there by now; False if there is no server."""
        while self._thread.is_alive() and not self._closing.wait(0.05):
            with self._lock:
                if self.shown and not self._stale:
                    return True
            if "no server" in self._told:
                return False
        return False

    def close(self) -> None:
        """Post what is left and have the server save it; takes at most `CLOSE_LIMIT` seconds."""
        atexit.unregister(self.close)
        self._closing.set()
        self._thread.join(CLOSE_LIMIT)
        self._say = lambda sentence: None  # a thread still stuck must not write to a closed log

    # Everything below but _start_server runs in the thread.

    def _run(self) -> None:
        wait = 0.0
        try:
            while not self._closing.wait(wait):
                wait = self._sync(wait)
            self._finish()
        except NotVisdom:
            self._tell(f"{self._address} answers, but is not visdom; there will be no live page")

    def _sync(self, wait: float) -> float:
        # post the news; returns the seconds until the next time
        try:
            if not self._connected:
                self._connect()
            for title in ORDER:
                self._post_window(title)
            if not self._connected:
                self._tell("back, curves redrawn" if self._was_connected else self.url)
            self._connected = self._was_connected = True
            return PERIOD
        except (OSError, http.client.HTTPException) as error:
            self._connected = False
            if isinstance(error, ConnectionRefusedError) and self._is_starting():
                return STARTING
            self._tell_failure(getattr(error, "strerror", None) or str(error))
            return min(max(2 * wait, PERIOD), MAX_WAIT)

    def _finish(self) -> None:
        self._start_deadline = min(self._start_deadline, time.monotonic() + CLOSE_LIMIT)
        while self._sync(0) == STARTING:  # a run this short ends before its server is up
            time.sleep(STARTING)
        # not without a post: visdom would write "null" over the file of an env it has not read yet
        if self.shown:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._post("/save", {"data": [self.env]})

    def _connect(self) -> None:
        if not visdom_server.answers_as_visdom(self.server, self.port, TIMEOUT):
            raise NotVisdom
        # first of all: a page that is opened before its env exists stays empty for good
        self._post(f"/env/{quote(self.env)}", {"eid": self.env})
        with self._lock:  # the server may be a new one: draw everything
            self._stale |= {WINDOW_OF[m] for m, (steps, _) in self._points.items() if steps}
            self._stale |= set(self._panes)
        if not self._was_connected:  # an earlier run of this name must not be taken for this one
            for title in set(ORDER) - self._stale:
                self._post("/close", {"eid": self.env, "win": title})

    def _post_window(self, title: str) -> None:
        with self._lock:
            if title not in self._stale:
                return
            self._stale.discard(title)  # if the post fails, everything is drawn again
            plot = self._plot(title) if title in WINDOWS else None
            pane = self._panes.get(title)
        window = plot or pane()  # not while `log` waits for the lock
        opts = {"title": title, **(LARGE if title == MISTAKES else SIZE)}
        self._post("/events", window | {"eid": self.env, "win": title, "opts": opts})
        self._posted = True

    def _plot(self, title: str) -> dict:
        metrics = [metric for metric in WINDOWS[title] if self._points[metric][0]]
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
        return {"data": [trace(m, *self._points[m]) for m in metrics], "layout": layout}

    def _post(self, path: str, message: dict) -> None:
        status, _ = visdom_server.post(self.server, self.port, path, message, TIMEOUT)
        if status != 200:
            raise ConnectionError(f"it answered with status {status}")

    def _start_server(self) -> None:
        # Where none listens, and only here: a thread that starts a process while another thread
        # forks a loader process may wait for ever, because the fork keeps its pipe open.
        if not self.autostart or not visdom_assets.visdom_folder():
            return
        try:
            socket.create_connection((self.server, self.port), timeout=TIMEOUT).close()
            return
        except ConnectionRefusedError:
            pass
        except OSError:
            return  # the thread will say why
        try:
            self._process = visdom_server.start(self.port, self.env_path)
        except OSError as error:
            self._tell(f"cannot start a server: {error}")
            return
        self._start_deadline = time.monotonic() + START_LIMIT
        self._tell(f"started a server, which stays up (process {self._process.pid})")
        if not visdom_assets.ready():
            self._tell(visdom_server.NO_PAGE)

    def _is_starting(self) -> bool:
        starting = self._process is not None and self._process.poll() is None
        return starting and not self._was_connected and time.monotonic() < self._start_deadline

    def _tell_failure(self, reason: str) -> None:
        if self._was_connected:
            self._tell(f"lost the server ({reason}); {GOES_ON}; {TRIES}", "lost")
        elif self.autostart and not visdom_assets.visdom_folder():
            install = visdom_assets.INSTALL
            self._tell(f"not installed; {GOES_ON}; for the live page: {install}", "no server")
        else:
            log = f", see {self.env_path / visdom_server.LOG}" if self._process else ""
            where = f"no server at {self._address} ({reason}{log})"
            self._tell(f"{where}; {GOES_ON}; {TRIES}", "no server")

    def _tell(self, sentence: str, kind: str = "") -> None:
        if (kind or sentence) not in self._told:
            self._told.add(kind or sentence)
            self._say(f"visdom: {sentence}")


def trace(metric: str, steps: list[float], values: list[float]) -> dict:
    """One curve as plotly wants it."""
    name, color, dash = TRACES[metric]
    return {
        "type": "scatter",
        "name": name,
        "mode": "lines+markers" if len(steps) <= MAX_MARKERS else "lines",
        "line": {"color": color, "dash": dash},
        # visdom's smoothing button kills the page if marker.line is missing or empty
        "marker": {"size": 5, "line": {"width": 0}},
        "x": thin(steps),
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


def text_pane(content: str) -> dict:
    """HTML as visdom wants it."""
    return {"data": [{"type": "text", "content": content}]}


def picture_pane(jpeg: bytes) -> dict:
    """A picture as visdom wants it."""
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return {"data": [{"type": "image", "content": {"src": source}}]}


def confusion(counts: list[list[int]], class_names: list[str]) -> dict:
    """The matrix as plotly wants it."""
    sums = [sum(row) or math.nan for row in counts]  # of a class without videos there is no share
    shares = [
        [finite(round(100 * n / total, 1)) for n in row]
        for row, total in zip(counts, sums, strict=True)
    ]
    numbers = {"texttemplate": "%{z:.0f}"} if len(class_names) <= MAX_NUMBERS else {}
    data = {
        "type": "heatmap",
        "z": shares,
        "x": class_names,
        "y": class_names,
        "zmin": 0,
        "zmax": 100,
        "colorscale": [[0, "white"], [1, BLUE]],
        "showscale": False,  # it would lie under the buttons
        "hovertemplate": "%{y}, taken for %{x}: %{z:.0f} %<extra></extra>",
        **numbers,
    }
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


def html_table(values: dict) -> str:
    """Names and values, which are text, whatever they look like."""
    cell = '<td style="padding: 0 0 0 8px">'
    rows = "".join(
        f"<tr>{cell}{html.escape(name)}</td>{cell}<b>{html.escape(readable(value))}</b></td></tr>"
        for name, value in values.items()
    )
    style = "display: inline-block; vertical-align: top; font-size: 12px; line-height: 1.3"
    return f'<table style="{style}">{rows}</table>'


def readable(value: object) -> str:
    """Four digits of a number; the values of a list without brackets."""
    if value is None:  # JSON has no word for infinity
        return "no number"
    if isinstance(value, list):
        return " ".join(map(readable, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
