"""The live page as a person sees it: real runs, a real server, a real browser."""

import http.server
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import TINY_RUN
from test_visdom import ask, free_port, wait_until

from main import main
from utils import loggers
from utils.live_page import assets, page, replay
from utils.live_page import server as visdom_server
from utils.live_page.logger import Visdom

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not assets.visdom_folder(), reason="visdom is not installed"),
]
SMALL = ("--arch", "tsn", "--backbone", "resnet18", "--clip-len", "2", "--precision", "fp32")
ALONE = [*TINY_RUN, *SMALL]
PAGE = [option for option in ALONE if option != "--no-visdom"]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture
def servers():
    """Processes that a test starts, ended after it; a stopped one, too."""
    started = []
    yield started
    for server in started:
        server.kill()
        server.wait()


def curve(port, name, env):
    """The x of one curve of the loss window on the server; none while there is none."""
    try:
        data = ask(port, "/win_data", {"eid": env, "win": "loss"})["content"]["data"]
        return next((trace["x"] for trace in data if trace["name"] == name), [])
    except (OSError, ValueError, TypeError):
        return []


def test_a_server_that_is_killed_or_hangs_changes_neither_weights_nor_time(
    in_tiny_set, servers, monkeypatch
):
    monkeypatch.setattr(page, "PERIOD", 0.05)
    monkeypatch.setattr(page, "MAX_WAIT", 0.5)
    more = ["--epochs", "4", "--views", "1x1"]
    assert main([*ALONE, *more, "--name", "alone"]) == 0
    port, spent = free_port(), []

    def start():
        servers.append(visdom_server.start(port, Path("saved_model/.visdom")))
        wait_until(lambda: visdom_server.is_visdom("127.0.0.1", port, 1.0), 30)

    def at_step(step):
        if step == 2:
            wait_until(lambda: curve(port, "train", "run"), 30)
            servers[0].kill()
            servers[0].wait()
        elif step == 4:
            start()
            wait_until(lambda: len(curve(port, "train", "run")) == 4, 30)  # the whole history
        elif step == 6:
            servers[1].send_signal(signal.SIGSTOP)

    def timed(method):
        def call(self, *args):
            started = time.perf_counter()
            method(self, *args)
            spent.append(time.perf_counter() - started)
            if method.__name__ == "log_steps":
                at_step(args[0]["step"])

        return call

    for name in ("log_steps", "log_epoch"):
        monkeypatch.setattr(Visdom, name, timed(getattr(Visdom, name)))
    start()
    assert main([*PAGE, *more, "--name", "run", "--visdom-port", str(port)]) == 0

    weights = [torch.load(f"saved_model/{n}/last.pth")["model"] for n in ("alone", "run")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    steps = loggers.read_lines(Path("saved_model/run/steps.jsonl"))
    step_time = statistics.median(m["time/step"] for m in steps)
    assert statistics.median(spent) < 0.01 * step_time
    assert max(spent) < 2  # a single post to a hung server takes three seconds
    servers[1].kill()
    servers[1].wait()
    start()
    replay.replay(Path("saved_model/run"), "127.0.0.1", port)
    assert curve(port, "train", "run") == [m["epoch"] for m in steps]
    assert curve(port, "validation", "run") == [1, 2, 3, 4]


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser: chromium and chromedriver are not installed")
    if not assets.ready():
        pytest.skip("the browser files of visdom are missing: python -m utils.live_page.assets")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, "--window-size=1280,800", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    # a name of another's that points here, as the second answer of a rebinding server does
    options.add_argument("--host-resolver-rules=MAP evil.test 127.0.0.1")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


# of each window: title, place, names in the legend, titles of the axes, points of each curve, text,
# the natural width of a picture and what is above it, and how far the text goes to the side
LOOK = """
return [...document.querySelectorAll('.window')].map(pane => {
  const all = query => [...pane.querySelectorAll(query)];
  const box = pane.getBoundingClientRect();
  return {
    title: all('.bar .pull-right').map(part => part.textContent).join('').trim(),
    box: [box.left, box.top, box.right, box.bottom],
    legend: all('.legendtext').map(entry => entry.textContent),
    axes: all('.xtitle, .ytitle').map(entry => entry.textContent),
    points: all('.scatterlayer .trace').map(trace => trace.querySelectorAll('.point').length),
    text: all('.content-text').map(entry => entry.innerText).join(),
    cells: all('.heatmaplayer image').length,
    picture: all('img').map(image => image.naturalWidth),
    above: all('img').map(image => image.getBoundingClientRect().top - box.top),
    sideways: all('.content-text').map(text => text.scrollWidth - text.clientWidth),
  };
})
"""


def look(browser):
    return {window["title"]: window for window in browser.execute_script(LOOK)}


def apart(first, second):
    """Whether two boxes (left, top, right, bottom) do not overlap."""
    return (
        first[2] <= second[0]
        or second[2] <= first[0]
        or first[3] <= second[1]
        or second[3] <= first[1]
    )


def test_a_person_sees_the_run_grow_and_go_on(in_tiny_set, browser, servers):
    port = free_port()
    url = f"http://127.0.0.1:{port}/env/live"
    command = [sys.executable, str(ROOT / "main.py"), *PAGE, "--name", "live"]
    folder = Path("saved_model/live")
    run = subprocess.Popen(
        [*command, "--epochs", "6", "--visdom-port", str(port)], stderr=subprocess.DEVNULL
    )
    servers.append(run)

    def points(title="loss"):
        return look(browser).get(title, {"points": [0]})["points"]

    def drawn():
        return curve(port, "train", "live")

    try:
        wait_until(drawn, 60)  # its server and its first point
        browser.get(url)
        wait_until(lambda: len(points()) == 2, 60)  # the first validation is there
        assert run.poll() is None
        first = points()
        wait_until(lambda: points()[0] > first[0], 60)  # the open page follows
        assert re.search(r"time left\s+\d+(\.\d)? (s|min)\n", look(browser)["run"]["text"])
        assert run.wait(120) == 0
        steps = loggers.read_lines(folder / "steps.jsonl")
        wait_until(lambda: points() == [12, 6])

        windows = look(browser)
        legends = {title: window["legend"] for title, window in windows.items()}
        assert legends == {
            "run": [],
            "loss": ["train", "validation"],
            "accuracy (%)": ["train top-1", "validation top-1"],
            "learning rate": ["learning rate"],
            "seconds per step": ["data", "copy", "compute"],
            "confusion (%)": [],
            "mistakes": [],
        }
        for title in ("loss", "accuracy (%)", "learning rate", "seconds per step"):
            assert set(windows[title]["axes"]) == {"epoch", title}
        text = windows["run"]["text"]
        assert re.search(r"arch\s+tsn", text) and "time left" not in text
        first, others = text.split("other options")
        assert re.search(r"not as in the recipe\s.*epochs\s+6 \(recipe: \d+\)", first, re.DOTALL)
        assert "\nepochs\t" not in others and windows["run"]["sideways"] == [0]
        assert re.search(r"train/loss\s+" + re.escape(f"{steps[-1]['train/loss']:.4g}"), text)
        assert windows["confusion (%)"]["cells"] == 1
        assert set(windows["confusion (%)"]["axes"]) == {"taken for", "class"}
        if (folder / "mistakes.jpg").exists():
            assert windows["mistakes"]["picture"] == [816]
            assert windows["mistakes"]["above"][0] < 20  # the bar of the window alone
        boxes = [window["box"] for window in windows.values()]
        assert all(box[0] >= 0 and box[2] <= 1280 for box in boxes)
        assert all(apart(a, b) for i, a in enumerate(boxes) for b in boxes[:i])

        resume = ["--resume", str(folder / "last.pth"), "--epochs", "7", "--device", "cpu"]
        assert main([*resume, "--precision", "fp32", "--visdom-port", str(port)]) == 0
        wait_until(lambda: points() == [14, 7])  # its own curves, on the page that is still open
        assert drawn() == [(i + 1) / 2 for i in range(14)]
        severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not severe
    finally:
        stays = re.search(r"stays up \(process (\d+)\)", (folder / "log.txt").read_text())
        os.kill(int(stays[1]), signal.SIGKILL)


# what a page may try that has the address `base` of the server; it returns what succeeded
ATTACK = """
const [base, done] = arguments, found = [];
const env = {eid: 'run', data: null};
const pane = {win: 'mine', eid: 'run', data: [{type: 'text', content: 'evil'}]};
const posts = {
  '/events': pane, '/update': pane, '/close': {win: 'mine', eid: 'run'}, '/delete_env': env,
  '/win_data': {eid: 'run', win: null, data: '{}'}, '/fork_env': {prev_eid: 'run', eid: 'evil'},
  '/env/evil': {eid: 'evil'}, '/save': {data: ['run']},
};
const post = path => fetch(base + path, {
  method: 'POST', mode: 'no-cors', body: JSON.stringify(posts[path]),
}).then(answer => { if (answer.ok) found.push(path); }, () => {});
const read = fetch(base + '/env/run').then(
  answer => { if (answer.ok) found.push('GET'); }, () => {});
const image = new Promise(next => {
  const element = new Image();
  element.onload = element.onerror = next;
  element.src = base + '/socket_wrap';
});
const socket = path => new Promise(next => {
  const socket = new WebSocket(base.replace('http', 'ws') + path);
  socket.onerror = next;
  socket.onopen = () => {
    found.push(path);
    for (const message of [{cmd: 'delete_env', eid: 'run'}, {cmd: 'save_layouts', data: 'evil'}])
      socket.send(JSON.stringify(message));
    setTimeout(next, 200);
  };
});
const form = new Promise(next => {
  const frame = document.body.appendChild(document.createElement('iframe'));
  frame.name = 'target';
  const form = document.body.appendChild(document.createElement('form'));
  Object.assign(form, {
    action: base + '/events', method: 'POST', enctype: 'text/plain', target: 'target',
  });
  const field = form.appendChild(document.createElement('input'));
  field.name = JSON.stringify(pane).slice(0, -1) + ', "x": "';
  field.value = '"}';
  frame.onload = next;
  setTimeout(next, 1000);
  form.submit();
});
Promise.all([
  ...Object.keys(posts).map(post), read, image, socket('/socket'), socket('/vis_socket'), form,
]).then(() => done(found));
"""


def test_a_page_of_another_origin_changes_nothing(tmp_path, browser, servers):
    port = free_port()
    servers.append(visdom_server.start(port, tmp_path / "visdom"))
    wait_until(lambda: visdom_server.is_visdom("127.0.0.1", port, 1.0), 30)
    window = {"win": "mine", "eid": "run", "opts": {"title": "mine"}}
    window["data"] = [{"type": "text", "content": "good"}]
    visdom_server.post("127.0.0.1", port, "/events", window, 5.0)
    ask(port, "/save", {"data": ["run"]})

    def state():
        files = {p.name: p.read_bytes() for p in (tmp_path / "visdom").glob("*.json")}
        windows = ask(port, "/win_data", {"eid": "run", "win": None})
        return files, windows, ask(port, "/env_state", {})

    before = state()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<body>a page")
    site = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), site) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        pages = [f"http://{name}:{other.server_port}/" for name in ("127.0.0.1", "evil.test")]
        # rebound: to the browser, server and page are of one origin
        for url in (*pages, f"http://evil.test:{port}/"):
            browser.get(url)
            base = f"http://evil.test:{port}" if url.endswith(f":{port}/") else ""
            found = browser.execute_async_script(ATTACK, base or f"http://127.0.0.1:{port}")
            assert (found, state()) == ([], before), url
        other.shutdown()
    browser.get(f"http://localhost:{port}/env/run")  # and the own page works, by any local name
    wait_until(lambda: look(browser).get("mine", {}).get("text") == "good", 10)
    assert "/events" in browser.execute_async_script(ATTACK, f"http://localhost:{port}")
