"""Tiny data sets that every test can write for itself."""

import csv
import json
import logging
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import structure
from config import Preprocessing
from locks import owned
from models import build_model
from utils import checkpoint

# two threads for steps this small wait for each other longer than they work
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser):
    help = "damaged files of each kind for tests/fuzz"
    parser.addoption("--fuzz", type=int, default=20, metavar="N", help=help)


@pytest.fixture(scope="session")
def path_of_training(tmp_path_factory):
    """The files that a training enters, each with its number of lines."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers: it takes most of a minute, once is enough
    kept = folder / "path_of_training.json"
    with owned(kept, wait=math.inf):
        if not kept.exists():
            path = structure.path_of_training()
            lengths = {str(e.path.relative_to(structure.ROOT)): e.num_lines for e in path}
            kept.write_text(json.dumps(lengths))
    return {Path(name): length for name, length in json.loads(kept.read_text()).items()}


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


@pytest.fixture
def tiny_set(tmp_path):
    """A data root with the set `tiny`: 2 classes, 6 + 4 videos of 10 frames of 48x36."""
    folder = tmp_path / "data" / "tiny"
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
    return folder.parent


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


@pytest.fixture
def in_tiny_set(tiny_set, monkeypatch):
    """The working folder is one with data/tiny in it."""
    monkeypatch.chdir(tiny_set.parent)
    return tiny_set.parent


@pytest.fixture
def untrained(in_tiny_set):
    """A checkpoint of a small TSN for data/tiny, alone in a folder; its head is as large as it gets
    by training, so that its scores differ."""
    torch.manual_seed(0)
    arch_args = {"backbone": "resnet18", "modality": "rgb"}
    model = build_model("tsn", 2, **arch_args)
    torch.nn.init.normal_(model.head.weight, std=0.2)
    preprocessing = Preprocessing(
        clip_len=3, snippet_len=1, short_side=36, crop_size=32, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    state = dict.fromkeys(checkpoint.KEYS) | {
        "arch": "tsn",
        "arch_args": arch_args,
        "class_names": ["down", "up"],
        "preprocessing": vars(preprocessing),
        "model": model.state_dict(),
        "epoch": 1,
        "choices": [],
        "action": "train",
    }
    path = in_tiny_set / "alone" / "net.pth"
    path.parent.mkdir()
    checkpoint.save(state, path)
    return path


def read_table(path):
    """The rows of a CSV, and of each the scores of its classes."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    numbers = [i for i in range(1, 6) if f"class_{i}" in (rows or [{}])[0]]
    kinds = [{row[f"class_{i}"]: row[f"score_{i}"] for i in numbers} for row in rows]
    return rows, [{name: float(score) for name, score in kind.items() if name} for kind in kinds]


def relative(a, b):
    """The relative error of tensor `a`: the norm of the difference over that of `b`."""
    return ((a - b).norm() / b.norm()).item()
