"""A run's page in visdom, which can neither slow down nor stop the run.

The run only appends to lists. A thread looks for news once a second and posts the windows that have
some, each as a whole: visdom's own append costs more the more points it holds (2 s each at 100,000
points), and a server that was restarted, and is empty, is given everything by the same code. Only
the server needs visdom to be installed; what is posted here is JSON over HTTP.
"""

import atexit
import contextlib
import http.client
import json
import re
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

from utils import curves
from utils.curves import CONFUSION, MISTAKES, RUN
from utils.live_page import assets, server
from utils.live_page.panes import curves_pane, folder_of, trace
from utils.live_page.run_files import Folder

SIZE = {"width": 405, "height": 260}  # pixels; two rows of three fit a screen of 1280 x 800
LARGE = {"width": 820, "height": 460}  # two columns, for the picture of utils.mistakes

PERIOD = 1.0  # seconds between two looks for news
STARTING = 0.25  # the same, while a server comes up
TIMEOUT = 3.0  # seconds for one post
MAX_WAIT = 30.0  # seconds between two tries to reach a server
START_LIMIT = 30.0  # seconds for a server to come up: its imports are slow on a cold disk
GOES_ON, TRIES = "curves go to the run folder", "will keep trying"
CLOSE_LIMIT = 4.0  # seconds; a hung server must not hold up the end of a run


class Page:
    """Windows of one run on visdom's page, in an environment of its own, `env`.

    Args:
        env_path: folder for the data of a server that is started here.
        folder: of the run. If `env` has the page of another one, this run's is beside it, by a name
            with a number behind.
        autostart: start a server if none answers and `host` is this machine.
        say: receives each sentence for the user, once; called from another thread.
    """

    def __init__(
        self,
        env: str,
        host: str = server.HOST,
        port: int = server.PORT,
        env_path: Path = server.ENV_PATH,
        folder: Folder | None = None,
        autostart: bool = True,
        say: Callable[[str], None] = print,
    ):
        self.env = re.sub(r"[^\w.-]+", "_", env)  # part of an address and of a file's name
        self.host, self.port = host.removeprefix("http://").rstrip("/"), port
        self.env_path = env_path.resolve()  # the working folder may change later
        self.folder = folder
        self._address = f"{self.host}:{port}"
        self.autostart = autostart and self.host in ("127.0.0.1", "localhost")
        self._say = say
        self._told: set[str] = set()  # kinds of sentences

        # what is to be shown: the run adds to it, the thread reads it, both under the lock
        self._lock = threading.Lock()
        self._points: dict[str, tuple[list[float], list[float]]] = {}  # name: epochs, values
        self._panes: dict[str, partial[dict]] = {}  # title: makes what is no window of curves
        self._stale: set[str] = set()  # titles of the windows that have news

        # what is known of the server: only the thread writes it
        self._connected = self._was_connected = self._posted = False
        self._cookie = ""  # of its login
        self._process: subprocess.Popen | None = None  # the server, if it was started here
        self._start_deadline = 0.0

        self._closing = threading.Event()
        self._start_server()
        # a daemon: a run that fails must not wait for a server before it can end
        self._thread = threading.Thread(target=self._run_thread, name="visdom", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # or a script that forgets it would lose the last second

    # What the run calls: nothing here waits for the server.

    @property
    def url(self) -> str:
        """Address of this run's page."""
        return f"http://{self._address}/env/{quote(self.env)}"

    @property
    def shown(self) -> bool:
        """Whether the server has something of this run."""
        return self._connected and self._posted

    @property
    def places(self) -> list[str]:
        """Where the page is, if it is shown, and what ends a server that was started here."""
        if not self.shown:
            return []
        stays = self._process is not None and self._process.poll() is None
        command = server.stop_command(self.port, self.env_path)
        return [f"visdom: {self.url}" + (f" (stays up; {command} ends it)" if stays else "")]

    def log(self, metrics: dict, epoch: float) -> None:
        """Add a point at `epoch`, such as 2.25, to the curve of each number in `metrics`."""
        with self._lock:
            for name, value in metrics.items():
                if curves.is_drawn(name, value):
                    epochs, values = self._points.setdefault(name, ([], []))
                    epochs.append(float(epoch))
                    values.append(float(value))
                    self._stale.add(curves.window_title(name))

    def show(self, title: str, pane: partial[dict]) -> None:
        """Show what `pane` makes (see panes.py) in place of what stood under this title.

        Not made yet, since it may take a while: the thread calls it.
        """
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

    def _start_server(self) -> None:
        # Called before the thread is there, and never again: a process that one thread starts while
        # another forks a loader process may wait for ever, because the fork keeps its pipe open.
        if not self.autostart or not assets.visdom_folder():
            return
        try:
            socket.create_connection((self.host, self.port), timeout=TIMEOUT).close()
            return  # something listens; the thread will see whether it is visdom
        except ConnectionRefusedError:
            pass
        except OSError:
            return  # the thread will say why
        try:
            self._process = server.start(self.port, self.env_path)
        except OSError as error:
            self._tell(f"cannot start a server: {error}")
            return
        self._start_deadline = time.monotonic() + START_LIMIT
        self._tell(f"started a server, which stays up (process {self._process.pid})")
        if not assets.ready():
            self._tell(server.NO_PAGE)

    # The thread. Everything below runs in it, where waiting for the server costs the run nothing.

    def _run_thread(self) -> None:
        wait = 0.0
        try:
            while not self._closing.wait(wait):  # a pause that `close` cuts short
                wait = self._sync(wait)
            self._finish()
        except server.Refused as error:  # what answers is left alone, and the thread ends
            self._tell(f"{self._address} {error}; there will be no live page")

    def _sync(self, wait: float) -> float:
        """Post the news; `wait` is the pause before it, what it returns the one after it."""
        try:
            if not self._connected:
                self._connect()
            with self._lock:  # the order in which a page that is new to the server shows them
                titles = [RUN, *curves.windows(self._points), CONFUSION, MISTAKES]
            for title in titles:
                self._post_window(title)
            if not self._connected:
                self._tell("back, curves redrawn" if self._was_connected else self.url)
            self._connected = self._was_connected = True
            return PERIOD
        except (OSError, http.client.HTTPException) as error:
            # Whether the last post arrived cannot be known, and what answers next may be a new
            # server without any data. So the next try connects anew, which draws everything.
            self._connected = False
            if isinstance(error, ConnectionRefusedError) and self._is_starting():
                return STARTING  # nothing is wrong yet
            self._tell_failure(getattr(error, "strerror", None) or str(error))
            return min(max(2 * wait, PERIOD), MAX_WAIT)

    def _finish(self) -> None:
        # A run may end before the server that it started is up: wait for it, but no longer than
        # `close` waits for this thread. A server that is lost or hangs gets one more try.
        self._start_deadline = min(self._start_deadline, time.monotonic() + CLOSE_LIMIT)
        while self._sync(0) == STARTING:
            time.sleep(STARTING)
        # not without a post: visdom would write "null" over the file of an env it has not read yet
        if self.shown:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._post("/save", {"data": [self.env]})

    def _connect(self) -> None:
        self._cookie = server.enter(self.host, self.port, TIMEOUT)
        windows = self._windows()
        theirs = folder_of(windows.get(RUN, {}))
        if self.folder and theirs and not self.folder.is_same(theirs):
            number = zlib.crc32(f"{self.folder.inode} {self.folder.path}".encode())
            self.env += f"_{number:08x}"
            windows = self._windows()
        with self._lock:  # the server may be a new one: draw everything
            self._stale |= set(map(curves.window_title, self._points)) | self._panes.keys()
            ours = self._stale.copy()
        if not self._was_connected:  # an earlier run of this name must not be taken for this one
            for key in windows.keys() - ours:
                if windows[key].get("title") == key:  # else it is a window that a user made
                    self._post("/close", {"eid": self.env, "win": key})

    def _windows(self) -> dict[str, dict]:
        """What the page shows; it is there from now on."""
        # first of all: a page that is opened before its env exists stays empty for good
        self._post(f"/env/{quote(self.env)}", {"eid": self.env})
        return json.loads(self._post("/win_data", {"eid": self.env, "win": None}))

    def _post_window(self, title: str) -> None:
        with self._lock:
            if title not in self._stale:
                return
            # before the post, not after it: news that come meanwhile must not be marked as posted
            self._stale.discard(title)
            pane = self._panes.get(title)
            if pane is None:  # of curves, thinned now, since the run appends to these lists
                drawn = curves.windows(self._points)[title]
                traces = [trace(curve, *self._points[name]) for name, curve in drawn.items()]
                pane = partial(curves_pane, title, traces)
        content = pane()  # without the lock, which `log` may be waiting for
        opts = {"title": title, **(LARGE if title == MISTAKES else SIZE)}
        self._post("/events", content | {"eid": self.env, "win": title, "opts": opts})
        self._posted = True

    def _post(self, path: str, message: dict) -> bytes:
        address = self.host, self.port
        status, body, _ = server.post(*address, path, message, TIMEOUT, self._cookie)
        if status != 200:
            raise ConnectionError(f"it answered with status {status}")
        return body

    def _is_starting(self) -> bool:
        starting = self._process is not None and self._process.poll() is None
        return starting and not self._was_connected and time.monotonic() < self._start_deadline

    def _tell_failure(self, reason: str) -> None:
        if self._was_connected:
            self._tell(f"lost the server ({reason}); {GOES_ON}; {TRIES}", "lost")
        elif self.autostart and not assets.visdom_folder():
            why = f"not installed; {GOES_ON}; for the live page: {assets.INSTALL}"
            self._tell(why, "no server")
        else:
            log = f", see {self.env_path / server.LOG}" if self._process else ""
            where = f"{self._address} ({reason}{log})"
            self._tell(f"no server at {where}; {GOES_ON}; {TRIES}", "no server")

    def _tell(self, sentence: str, kind: str = "") -> None:
        # of each kind one sentence a run: a server that comes and goes would fill the log
        if (kind or sentence) not in self._told:
            self._told.add(kind or sentence)
            self._say(f"visdom: {sentence}")
