"""Live curves: the logger against servers that misbehave, the browser files, and a real server."""

import base64
import gzip
import hashlib
import http.client
import http.server
import io
import json
import math
import re
import socket
import sys
import tarfile
import threading
import time
from functools import partial

import pytest

from utils.live_page import assets, page, panes
from utils.live_page import server as visdom_server
from utils.live_page.page import Page
from utils.live_page.run_files import Folder


def wait_until(condition, seconds=5.0):
    """Poll, because the logger works in a thread; fails when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    seconds = {"PERIOD": 0.02, "STARTING": 0.05, "TIMEOUT": 1.0, "MAX_WAIT": 0.1}
    for name, value in seconds.items():
        monkeypatch.setattr(page, name, value)


@pytest.fixture
def log_to():
    """Makes loggers that start no server, with the sentences that they say in `.said`."""
    loggers = []

    def make(port, env="run", **options):
        said = []
        logger = Page(env, port=port, say=said.append, **({"autostart": False} | options))
        logger.said = said
        loggers.append(logger)
        assert logger._thread.daemon  # a server that hangs does not keep the run from ending
        return logger

    yield make
    for logger in loggers:
        logger.close()


class FakeVisdom(http.server.ThreadingHTTPServer):
    """Records what is posted; it hangs while `answering` is unset."""

    daemon_threads = True

    def __init__(self, port=0, status=200):
        super().__init__(("127.0.0.1", port), Recorder)
        self.posts, self.status = [], status
        self.stored = {}  # windows that it has from before
        self.answering = threading.Event()
        self.answering.set()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    @property
    def windows(self):
        """The last message of each window."""
        posts = [message for path, message in list(self.posts) if path == "/events"]
        return {message["win"]: message for message in posts}

    def curve(self, window, name):
        """The points (x, y) of one trace, as last posted."""
        traces = self.windows.get(window, {}).get("data", [])
        [trace] = [trace for trace in traces if trace["name"] == name] or [{"x": [], "y": []}]
        return list(zip(trace["x"], trace["y"], strict=True))

    def stop(self):
        self.answering.set()
        self.shutdown()
        self.server_close()


class Recorder(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # parse_constant sees NaN and Infinity, which browsers refuse
        message = json.loads(body, parse_constant=pytest.fail)
        self.server.posts.append((self.path, message))
        self.server.answering.wait()
        self.send_response(self.server.status)
        self.end_headers()
        answers = {"/env_state": ["main"], "/win_data": self.server.stored}
        self.wfile.write(json.dumps(answers.get(self.path, "ok")).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def fake():
    server = FakeVisdom()
    yield server
    server.stop()


OURS = Folder("here", 7, "/home/us/saved_model/run")


@pytest.mark.parametrize(
    "theirs, shared",
    [
        (OURS, True),
        (OURS._replace(host="node2"), True),  # it went on there
        (OURS._replace(inode=8), True),  # it was removed and made anew
        (None, True),  # of an earlier version
        (OURS._replace(path="/home/them/saved_model/run"), False),
        (OURS._replace(host="container", inode=8), False),  # where paths are alike
    ],
)
def test_a_page_belongs_to_a_run_folder(fake, log_to, theirs, shared):
    table = panes.tables_pane({"a": '"<b>"'}, folder=theirs)["data"][0]["content"]
    stored = {"title": "run", "content": table}
    fake.stored = {"run": stored, "loss": {"title": "loss", "content": {}}}
    logger = log_to(fake.port, folder=OURS)
    logger.show("run", partial(panes.tables_pane, {"arch": "i3d"}, folder=OURS))
    assert logger.wait_until_shown()
    used = {message["eid"] for path, message in fake.posts if path in ("/events", "/close")}
    assert used == {logger.env}
    assert (logger.env == "run") is shared
    assert logger.said == [f"visdom: {logger.url}"]
    assert panes.folder_of({"content": fake.windows["run"]["data"][0]["content"]}) == OURS


def test_what_a_user_wrote_by_that_title_is_of_no_folder():
    for content in ("<b>", 'data-folder="{"', 'data-folder="[1]"', {"data": []}, None):
        assert panes.folder_of({"content": content}) is None


def test_each_metric_is_a_named_curve_in_its_window(fake, log_to):
    logger = log_to(fake.port)
    logger.log({"train/loss": 2.5, "train/top5": 60, "lr": 0.1, "time/data": 0.02}, 0.25)
    logger.log({"val/loss": 2.0, "val/top1": 40.0, "clips_per_s": 99.0, "epoch": 1}, 1)
    logger.close()
    names = {title: [t["name"] for t in window["data"]] for title, window in fake.windows.items()}
    assert names == {
        "loss": ["train", "validation"],
        "accuracy (%)": ["validation top-1", "train top-5"],
        "learning rate": ["learning rate"],
        "seconds per step": ["data"],
    }
    assert fake.curve("loss", "train") == [(0.25, 2.5)]
    layout = fake.windows["loss"]["layout"]
    assert (layout["xaxis"]["title"], layout["yaxis"]["title"]) == ("epoch", "loss")
    curve = fake.windows["loss"]["data"][0]
    assert "markers" in curve["mode"]  # or one point cannot be seen
    assert curve["marker"]["line"]  # or visdom's smoothing button kills the page


def test_env_is_made_before_its_address_is_told_and_saved_at_the_end(fake, log_to):
    logger = log_to(fake.port, env="i3d on/ucf 101")
    wait_until(lambda: logger.said)
    assert logger.said == [f"visdom: http://127.0.0.1:{fake.port}/env/i3d_on_ucf_101"]
    paths = [path for path, _ in fake.posts]
    assert paths == ["/env_state", "/env/i3d_on_ucf_101", "/win_data"]
    logger.log({"train/loss": 1.0}, 1)
    logger.close()
    assert fake.posts[-1] == ("/save", {"data": ["i3d_on_ucf_101"]})


def test_nothing_is_saved_if_nothing_was_drawn(fake, log_to):
    logger = log_to(fake.port)  # visdom would empty the file of an env that it has not read
    wait_until(lambda: logger.said)
    logger.close()
    assert "/save" not in [path for path, _ in fake.posts]


def test_values_that_are_no_numbers_do_no_harm(fake, log_to):
    logger = log_to(fake.port)
    for step, value in enumerate([1.0, math.inf, math.nan, -math.inf, None, "text", 2]):
        logger.log({"train/loss": value}, step)
    logger.close()
    points = [(0.0, 1.0), (1.0, None), (2.0, None), (3.0, None), (6.0, 2.0)]
    assert fake.curve("loss", "train") == points


@pytest.mark.parametrize("num_points", [1, 2, 998, 999, 1000, 1001, 25_000])
def test_long_curves_are_thinned_but_keep_their_ends(num_points):
    kept = panes.thin([float(i) for i in range(num_points)])
    assert len(kept) == min(len(kept), num_points, panes.MAX_POINTS)
    assert len(kept) > min(num_points, panes.MAX_POINTS) / 2 - 1
    assert (kept[0], kept[-1]) == (0.0, num_points - 1.0)
    assert kept == sorted(set(kept))


def test_text_is_shown_as_text(fake, log_to):
    logger = log_to(fake.port)
    logger.show("mistakes", partial(panes.text_pane, 'a & "b"'))
    numbers = {"lr": 1 / 3, "loss": None}
    logger.show("run", partial(panes.tables_pane, numbers, {"<i>": ["<b>", 0.5]}))
    logger.close()
    assert fake.windows["mistakes"]["data"][0]["content"] == "a &amp; &quot;b&quot;"
    content = fake.windows["run"]["data"][0]["content"]
    assert re.findall("<b>(.*?)</b>", content) == ["0.3333", "no number", "&lt;b&gt; 0.5"]
    assert "&lt;i&gt;" in content and "<i>" not in content


def test_confusion_is_shown_in_percent_of_each_class(fake, log_to):
    logger = log_to(fake.port)
    counts = [[3, 1, 0], [0, 0, 0], [0, 0, 7]]
    logger.show("confusion (%)", partial(panes.confusion_pane, counts, ["a", "0", "c"]))
    logger.close()
    window = fake.windows["confusion (%)"]
    [matrix] = window["data"]
    # a class without videos has no percentages, and NaN would break the page
    assert matrix["z"] == [[75, 25, 0], [None] * 3, [0, 0, 100]]
    assert matrix["x"] == matrix["y"] == ["a", "0", "c"]
    assert window["layout"]["xaxis"]["type"] == "category"  # or 0 would be a number
    assert window["layout"]["yaxis"]["autorange"] == "reversed"


@pytest.mark.parametrize("num_classes, names, numbers", [(12, 1, 1), (20, 1, 0), (21, 0, 0)])
def test_the_matrix_of_many_classes_is_not_written_over(num_classes, names, numbers):
    counts = [[1] * num_classes] * num_classes
    window = panes.confusion_pane(counts, [str(i) for i in range(num_classes)])
    [matrix] = window["data"]
    shown = "texttemplate" in matrix, window["layout"]["xaxis"]["showticklabels"]
    assert shown == (numbers, names)
    assert "hovertemplate" in matrix  # there they can be read anyway


def test_windows_of_an_earlier_run_of_that_name_go(fake, log_to):
    titles = ("loss", "mistakes", "grad_norm")
    fake.stored = {title: {"title": title} for title in titles} | {"mine": {"title": "samples"}}
    fake.answering.clear()  # until there is something to show
    logger = log_to(fake.port)
    logger.log({"val/loss": 1.0}, 1)
    fake.answering.set()
    wait_until(lambda: fake.windows)
    closed = [message["win"] for path, message in fake.posts if path == "/close"]
    assert set(closed) == {"mistakes", "grad_norm"}  # a window that a user made stays
    before = len(closed)
    fake.answering.clear()  # lost and found again: now they are of this run
    logger.log({"val/loss": 1.0}, 2)
    wait_until(lambda: len(logger.said) == 2)
    fake.answering.set()
    wait_until(lambda: len(logger.said) == 3)
    assert len([path for path, _ in fake.posts if path == "/close"]) == before


def test_a_curve_has_all_points_that_were_logged(fake, log_to):
    logger = log_to(fake.port)
    for epoch, loss in ((1, 1.0), (2, 0.5), (3, 0.25)):
        logger.log({"val/loss": loss, "epoch": epoch}, epoch)
    logger.close()
    assert fake.curve("loss", "validation") == [(1.0, 1.0), (2.0, 0.5), (3.0, 0.25)]


def test_proxies_in_the_environment_are_ignored(fake, log_to, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    logger = log_to(fake.port)
    wait_until(lambda: logger.said)
    assert logger.said == [f"visdom: {logger.url}"]


def test_hung_server_delays_neither_log_nor_close(fake, log_to, monkeypatch):
    monkeypatch.setattr(page, "TIMEOUT", 30.0)
    monkeypatch.setattr(page, "CLOSE_LIMIT", 0.5)
    fake.answering.clear()
    logger = log_to(fake.port)
    start = time.perf_counter()
    for step in range(2000):
        logger.log({"train/loss": 1.0, "train/top1": 50.0, "lr": 0.1}, step)
    assert time.perf_counter() - start < 0.5
    start = time.perf_counter()
    logger.close()
    assert time.perf_counter() - start < 1.0


def test_server_that_comes_back_empty_gets_the_whole_history(log_to):
    first = FakeVisdom()
    logger = log_to(first.port)
    logger.show("run", partial(panes.tables_pane, {"arch": "i3d"}))
    logger.show("mistakes", partial(panes.picture_pane, b"jpeg", 'v.mp4: "a" taken for b'))
    for step in range(5):
        logger.log({"train/loss": float(step), "lr": 0.1}, step)
    wait_until(lambda: len(first.curve("loss", "train")) == 5 and logger.said)
    first.stop()
    logger.log({"train/loss": 5.0}, 5)
    wait_until(lambda: len(logger.said) == 2)
    second = FakeVisdom(first.port)
    logger.log({"train/loss": 6.0}, 6)
    wait_until(lambda: len(second.curve("loss", "train")) == 7)
    # without news, but the server does not know them
    wait_until(lambda: {"learning rate", "run", "mistakes"} <= set(second.windows))
    wait_until(lambda: len(logger.said) == 3)
    second.stop()
    assert second.posts[1][0] == "/env/run"
    picture = second.windows["mistakes"]["data"][0]["content"]
    found = re.search('src="data:image/jpeg;base64,(.*?)" alt="v.mp4: &quot;a&quot; taken', picture)
    assert base64.b64decode(found[1]) == b"jpeg"
    assert logger.said[1].startswith("visdom: lost the server")
    assert logger.said[2] == "visdom: back, curves redrawn"


def test_other_program_on_the_port_is_told_and_left_alone(log_to):
    other = FakeVisdom(status=404)
    logger = log_to(other.port)
    wait_until(lambda: logger.said)
    logger.log({"train/loss": 1.0}, 1)
    time.sleep(0.2)
    logger.close()
    other.stop()
    assert [path for path, _ in other.posts] == ["/env_state"]
    assert len(logger.said) == 1 and "is not visdom" in logger.said[0]


def test_program_that_speaks_no_http_is_not_visdom():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(1000)

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(visdom_server.Refused, match="is not visdom"):
            visdom_server.enter("127.0.0.1", port, 2.0)


def test_no_server_is_told_once_and_close_does_not_wait(log_to):
    logger = log_to(free_port())
    logger.log({"train/loss": 1.0}, 1)
    wait_until(lambda: logger.said)
    time.sleep(0.3)  # a few more tries
    start = time.perf_counter()
    logger.close()
    assert time.perf_counter() - start < 0.5
    assert len(logger.said) == 1 and "curves go to the run folder" in logger.said[0]


def test_missing_visdom_is_told_with_the_line_that_installs_it(log_to, monkeypatch):
    monkeypatch.setattr(assets, "visdom_folder", lambda: None)
    logger = log_to(free_port(), autostart=True)
    wait_until(lambda: logger.said)
    assert assets.INSTALL in logger.said[0]


@pytest.mark.parametrize("host, starts", [("127.0.0.1", 1), ("localhost", 1), ("127.0.0.2", 0)])
def test_server_is_started_once_and_only_here(host, starts, log_to, monkeypatch, tmp_path):
    started = []

    class Process:
        pid = 1

        def poll(self):
            return 1  # it failed

    def start(port, env_path):
        started.append(env_path)
        return Process()

    monkeypatch.setattr(assets, "visdom_folder", lambda: tmp_path)
    monkeypatch.setattr(visdom_server, "start", start)
    logger = log_to(free_port(), host=host, autostart=True, env_path=tmp_path)
    wait_until(lambda: any("no server" in sentence for sentence in logger.said))
    time.sleep(0.2)  # a few more tries
    assert started == [tmp_path] * starts


# The browser files. A small package table stands for the real one; visdom and npm are fakes.

FILES = {"toy@1.0": {"toy.js": "js/toy.js"}, "other@2.0": {"css/o.css": "css/o.css"}}


def tarball(files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in files:
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)  # the same bytes in the next second


def sha512(data: bytes) -> str:
    return base64.b64encode(hashlib.sha512(data).digest()).decode()


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A visdom of the right version with an empty PATH; returns its folder."""
    site = tmp_path / "site"
    for folder in ("visdom/server", "visdom/static", "visdom-0.2.4.dist-info"):
        (site / folder).mkdir(parents=True)
    (site / "visdom-0.2.4.dist-info" / "METADATA").write_text("Name: visdom\nVersion: 0.2.4\n")
    (site / "visdom" / "__init__.py").touch()
    (site / "visdom" / "server" / "__init__.py").touch()
    index = '<link href={{ static_url("../user/style.css") }}>'
    (site / "visdom" / "static" / "index.html").write_text(index)
    downloader(site, "raise OSError('no network')")
    tarballs = {spec: tarball(files) for spec, files in FILES.items()}
    packages = {spec: (sha512(tarballs[spec]), files) for spec, files in FILES.items()}
    monkeypatch.setattr(assets, "PACKAGES", packages)
    monkeypatch.setattr(assets, "static_dir", lambda: tmp_path / "share" / "static")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))  # for the downloader's process
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return site


def downloader(site, code):
    """Gives the fake visdom a downloader that runs `code`."""
    text = f"from pathlib import Path\n\ndef download_scripts(install_dir):\n    {code}\n"
    (site / "visdom" / "server" / "build.py").write_text(text)


def fake_npm(bin_folder, tarballs):
    """An npm that delivers these tarballs, whatever it is asked for."""
    (bin_folder / "npm").write_text(
        f"#!{sys.executable}\n"
        f"import sys\nassert sys.argv[1:3] == ['pack', '--ignore-scripts'], sys.argv\n"
        f"for spec, data in {tarballs!r}.items():\n"
        f"    open(spec.replace('@', '-') + '.tgz', 'wb').write(data)\n"
    )
    (bin_folder / "npm").chmod(0o755)


def test_files_from_npm_make_the_folder_complete(toy, tmp_path, capsys):
    fake_npm(tmp_path / "bin", {spec: tarball(files) for spec, files in FILES.items()})
    assert not assets.ready()
    assert assets.main() == 0
    assert assets.ready()
    static = assets.static_dir()
    assert (static / "js" / "toy.js").read_text() == "toy.js"
    assert (static / "index.html").read_text() == '<link href="/user/style.css">'
    (tmp_path / "bin" / "npm").unlink()
    assert assets.main() == 0  # without npm now: there is nothing left to do
    assert "complete" in capsys.readouterr().out


def test_tarball_with_another_checksum_is_refused(toy, tmp_path, capsys):
    forged = {spec: tarball(files) for spec, files in FILES.items()} | {"other@2.0": b"forged"}
    fake_npm(tmp_path / "bin", forged)
    downloader(toy, f"Path({str(tmp_path / 'called')!r}).touch()")
    assert assets.main() == 1
    assert "other@2.0 whose sha512 is not the pinned one" in capsys.readouterr().err
    assert not (tmp_path / "called").exists()  # a forgery is no reason to try an unchecked way
    assert not assets.static_dir().exists()


SAVE_ALL = (
    "[(p.parent.mkdir(exist_ok=True), p.write_text({!r})) "
    "for p in (Path(install_dir, 'static', n) for n in ('js/toy.js', 'css/o.css'))]"
)


@pytest.mark.parametrize("npm", [None, {}])  # not there; delivers nothing
def test_without_npm_visdoms_own_downloader_is_asked(npm, toy, tmp_path, capsys):
    if npm is not None:
        fake_npm(tmp_path / "bin", npm)
    downloader(toy, SAVE_ALL.format("ok"))
    assert assets.main() == 0
    assert assets.ready()
    assert "visdom's own downloader" in capsys.readouterr().out


@pytest.mark.parametrize(
    "code, reason",
    [
        ("raise OSError('no network')", "failed with status 1"),
        ("pass", "left out 2 files"),  # visdom's goes on after an error
        (SAVE_ALL.format("<html>404"), "left out 2 files"),  # and saves error pages
        ("import time; time.sleep(60)", "took more than 0.5 s"),  # and knows no time limit
    ],
)
def test_without_any_way_there_is_one_clear_sentence(code, reason, toy, capsys, monkeypatch):
    monkeypatch.setattr(assets, "DOWNLOAD_TIMEOUT", 0.5 if "sleep" in code else 20)
    downloader(toy, code)
    assert assets.main() == 1
    error = capsys.readouterr().err
    assert "cannot be shown" in error and "there is no npm" in error and reason in error
    assert error.count("\n") == 1
    assert not assets.ready() and not assets.static_dir().exists()


def test_other_version_of_visdom_is_refused(toy, capsys):
    (toy / "visdom-0.2.4.dist-info" / "METADATA").write_text("Name: visdom\nVersion: 0.3.0\n")
    assert assets.main() == 1
    assert "visdom 0.3.0 is installed" in capsys.readouterr().err


def test_damaged_folder_is_not_ready(toy, tmp_path):
    fake_npm(tmp_path / "bin", {spec: tarball(files) for spec, files in FILES.items()})
    assets.main()
    (assets.static_dir() / "js" / "toy.js").unlink()
    assert not assets.ready()
    assets.main()
    assert assets.ready()


# The real thing.

needs_visdom = pytest.mark.skipif(not assets.visdom_folder(), reason="visdom not installed")


def ask(port, path, message):
    return json.loads(visdom_server.post("127.0.0.1", port, path, message, 5.0)[1])


def points_in_visdom(port) -> int:
    """Points of the first curve of the loss window; 0 while there is none."""
    try:
        data = ask(port, "/win_data", {"eid": "run", "win": "loss"})["content"]["data"]
        return len(data[0]["x"])
    except (OSError, ValueError):
        return 0


@needs_visdom
def test_real_server_is_started_and_can_be_restarted(log_to, tmp_path):
    (tmp_path / "run.json").write_text('{"jsons": {"lo')  # of a server killed while it saved
    port = free_port()
    logger = log_to(port, autostart=True, env_path=tmp_path)
    servers = []
    try:
        logger.log({"train/loss": 1.0, "val/loss": math.inf}, 1)
        wait_until(lambda: points_in_visdom(port) == 1, 30)
        servers.append(logger._process)
        assert visdom_server.is_visdom("127.0.0.1", port, 5.0)
        with pytest.raises(OSError):  # another address of this machine
            socket.create_connection(("127.0.0.2", port), timeout=1).close()
        if assets.ready():  # tornado 6.6 and visdom's own page make it 403
            page = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            page.request("GET", "/env/run")
            assert page.getresponse().status == 200
            page.close()
        servers[0].kill()
        servers[0].wait()
        logger.log({"train/loss": 2.0}, 2)
        wait_until(lambda: any("lost" in sentence for sentence in logger.said))
        servers.append(visdom_server.start(port, tmp_path))
        wait_until(lambda: points_in_visdom(port) == 2, 30)
        logger.close()
        saved = json.loads((tmp_path / "run.json").read_text())
        assert len(saved["jsons"]["loss"]["content"]["data"][0]["x"]) == 2
    finally:
        for server in servers or filter(None, [logger._process]):
            server.kill()
            server.wait()


def test_server_without_visdom_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(assets, "visdom_folder", lambda: None)
    with pytest.raises(SystemExit, match="pip install"):
        visdom_server.main(["--env-path", str(tmp_path)])


def test_the_server_is_started_before_the_thread_is(tmp_path, monkeypatch):
    """Started by the thread, it can meet a loader process being forked, and wait for ever."""
    starters = []

    def start(port, env_path):
        starters.append(threading.current_thread())
        raise OSError("not today")

    monkeypatch.setattr(visdom_server, "start", start)
    monkeypatch.setattr(assets, "visdom_folder", lambda: tmp_path)
    said = []
    logger = Page("run", port=free_port(), env_path=tmp_path, say=said.append)
    logger.close()
    assert starters == [threading.main_thread()]
    assert any("cannot start a server" in sentence for sentence in said)
