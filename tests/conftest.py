"""Tiny data sets that every test can write for itself."""

import csv
import json
import logging
import math
import os
import pkgutil
import shutil
import signal
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import structure
from config import Preprocessing, owned
from main import main
from models import build_model
from utils import checkpoint, recipes

# two threads for steps this small wait for each other longer than they work
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
# a shell ignores it for what it starts in the background, and so would the processes of tests
signal.signal(signal.SIGINT, signal.default_int_handler)
# all recipes, and not only those of the runs before
for _, name, _ in pkgutil.iter_modules(recipes.__path__):
    recipes.load(name)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser):
    help = "damaged files of each kind for tests/fuzz"
    parser.addoption("--fuzz", type=int, default=20, metavar="N", help=help)


def pytest_xdist_auto_num_workers():
    """One more than cores: a quarter of the time, a test waits for processes that it started."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a file or folder once for all workers of a test run: `once(name, make)`, where
    `make(path)` writes it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers

    def path_of(name, make):
        path = folder / name
        with owned(path, wait=math.inf):
            if not path.exists():
                made = Path(tempfile.mkdtemp(dir=folder), name)
                make(made)
                made.rename(path)
        return path

    return path_of


@pytest.fixture(scope="session")
def watched_run(once):
    """The files that a training enters, each with its number of lines, and the calls from the
    command to the network."""

    def watch(path):
        entered = structure.path_of_training()
        lengths = {str(e.path.relative_to(structure.ROOT)): e.num_lines for e in entered}
        path.write_text(json.dumps([lengths, structure.hops()]))

    lengths, hops = json.loads(once("watched_run.json", watch).read_text())
    return {Path(name): length for name, length in lengths.items()}, hops


@pytest.fixture(scope="session")
def path_of_training(watched_run):
    return watched_run[0]


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch, tmp_path):
    """No test writes into the user's cache or starts a visdom server on the usual port."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def fresh_state():
    """No test depends on those before it: random numbers and the log of runs start anew."""
    torch.manual_seed(0)
    yield
    log = logging.getLogger("video")  # as set_up_console leaves it
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    log.propagate, logging.raiseExceptions = True, True


@pytest.fixture
def shared():
    """The folder of real videos; all other reference data is in tests/golden."""
    if not SHARED.exists():
        pytest.skip("the real videos are not on this machine")
    return SHARED


def write_frames(folder, count, size=(48, 36), scheme="image_{:05d}.jpg", first=1, level=None):
    """`count` JPEG frames of `size` (width, height), of gray `level(i)` or noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    for i in range(count):
        shape = (size[1], size[0], 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        if level:
            pixels = np.full(shape, level(i), np.uint8)
        Image.fromarray(pixels).save(folder / scheme.format(first + i), quality=95)
    return folder


def add_flow(folder, fps=None):
    """Gives every video of the set in `folder` flow: u is 100 + 2 * field, v is 30 everywhere."""
    for path in folder.glob("*list01.json"):
        entries = json.loads(path.read_text())
        for entry in entries:
            flow = folder / "flow" / Path(entry["path"]).name
            count = entry["num_frames"] - 1
            write_frames(flow, count, scheme="flow_x_{:05d}.jpg", level=lambda t: 100 + 2 * t)
            write_frames(flow, count, scheme="flow_y_{:05d}.jpg", level=lambda t: 30)
            entry |= {"flow_path": str(flow.relative_to(folder))} | ({"fps": fps} if fps else {})
        path.write_text(json.dumps(entries))


def write_tiny_set(folder):
    for part, count in (("train", 6), ("test", 4)):
        entries = []
        for i in range(count):
            name = ("down", "up")[i % 2]
            path = f"frames/{name}/{part}_{i}"
            write_frames(
                folder / path, 10, level=lambda t, up=i % 2: 20 + (t if up else 9 - t) * 20
            )
            entries.append({"path": path, "class_name": name, "label": i % 2, "num_frames": 10})
        (folder / f"{part}list01.json").write_text(json.dumps(entries))
    (folder / "classes.txt").write_text("down\nup\n")


@pytest.fixture
def tiny_set(once, tmp_path):
    """A data root with the set `tiny`: 2 classes, 6 + 4 videos of 10 frames of 48x36."""
    shutil.copytree(once("tiny", write_tiny_set), tmp_path / "data" / "tiny")
    return tmp_path / "data"


TINY_RUN = [
    *(
        "--arch",
        "i3d",
        "--dataset",
        "tiny",
        "--data-root",
        "data",
        "--no-visdom",
        "--device",
        "cpu",
    ),
    *("--clip-len", "8", "--crop-size", "32", "--short-side", "36", "--batch-size", "3"),
    *("--epochs", "2", "--lr", "0.01", "--workers", "0", "--views", "2x1", "--log-every", "1"),
]

# the same of a network that takes a third of the time
SMALL_RUN = [
    *TINY_RUN,
    *("--arch", "tsn", "--backbone", "resnet18", "--clip-len", "2", "--precision", "fp32"),
]


@pytest.fixture
def in_tiny_set(tiny_set, monkeypatch):
    """The working folder is one with data/tiny in it."""
    monkeypatch.chdir(tiny_set.parent)
    return tiny_set.parent


def train_tiny(folder):
    write_tiny_set(folder / "data" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(TINY_RUN) == 0
    shutil.rmtree(folder / "data")


@pytest.fixture
def trained(once, in_tiny_set):
    """Beside data/tiny what TINY_RUN leaves, in saved_model/i3d_tiny_1."""
    shutil.copytree(once("trained", train_tiny) / "saved_model", "saved_model")
    return in_tiny_set


def write_checkpoint(path, arch, preprocessing, **arch_args):
    """Of a network for data/tiny whose head is as large as it gets by training, so that its scores
    differ."""
    torch.manual_seed(0)
    model = build_model(arch, 2, **arch_args)
    torch.nn.init.normal_(model.head.weight, std=0.2)
    state = dict.fromkeys(checkpoint.KEYS) | {
        "arch": arch,
        "arch_args": arch_args,
        "class_names": ["down", "up"],
        "preprocessing": vars(preprocessing),
        "model": model.state_dict(),
        "epoch": 1,
        "choices": [],
        "action": "train",
    }
    path.parent.mkdir()
    checkpoint.save(state, path)
    return path


def read_table(path):
    """The rows of a CSV, and of each the scores of its classes."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    numbers = [i for i in range(1, 6) if f"class_{i}" in (rows or [{}])[0]]
    kinds = [{row[f"class_{i}"]: row[f"score_{i}"] for i in numbers} for row in rows]
    return rows, [{name: float(score) for name, score in kind.items() if name} for kind in kinds]


def write_untrained(folder):
    preprocessing = Preprocessing(
        clip_len=3, snippet_len=1, short_side=36, crop_size=32, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    write_checkpoint(folder / "net.pth", "tsn", preprocessing, backbone="resnet18", modality="rgb")


@pytest.fixture
def untrained(once, in_tiny_set):
    """A checkpoint of a small TSN, alone in a folder."""
    return shutil.copytree(once("untrained", write_untrained), in_tiny_set / "alone") / "net.pth"


def relative(a, b):
    """The relative error of tensor `a`: the norm of the difference over that of `b`."""
    return ((a - b).norm() / b.norm()).item()
