"""What runs where the things are missing that only Linux has."""

import io
import json
import math
import ntpath
import os
import subprocess
import sys
import types
from pathlib import Path, PureWindowsPath

from conftest import TINY_RUN

import config
from config import num_cores
from pt_dataset import datalist
from pt_dataset.formats import zip_frames
from pt_dataset.inputs import paths
from pt_dataset.processes import deaths, memory
from pt_dataset.video_list import Video

SCRIPT = Path(__file__).with_name("other_machine.py")


def test_training_evaluation_and_prediction_need_nothing_of_linux(in_tiny_set):
    """A loader process is spawned, a lock is that of Windows, and no open file is replaced."""
    use = ["--resume", "saved_model/a/last.pth", "--device", "cpu", "--workers"]
    network = ["--arch", "tsn", "--backbone", "resnet18", "--clip-len", "1", "--views", "1x1"]
    commands = [
        [*TINY_RUN, *network, "--epochs", "1", "--name", "a"],
        [*use, "1", "--evaluate", "--views", "1x1"],
        [*use, "0", "--predict", "data/tiny/frames/up/test_1"],
    ]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(commands)], capture_output=True, text=True
    )
    assert (run.returncode, "cannot be locked" in run.stderr + run.stdout) == (0, False), run.stderr
    assert "Traceback" not in run.stderr
    folder = Path("saved_model/a")
    assert {"best.pth", "curves.png", "result.json"} <= {path.name for path in folder.iterdir()}
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert "memory_gb" not in last
    assert "memory not known" in (folder / "log.txt").read_text()


def test_cores_are_those_of_the_process_or_else_all(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert num_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)  # it may not know
    assert num_cores() == 1


def test_frames_are_read_at_their_place_without_pread(monkeypatch, tmp_path):
    """The place of the file itself does not matter, nor does the end of the file."""
    (tmp_path / "a.zip").write_bytes(bytes(range(100)))
    with open(tmp_path / "a.zip", "rb") as file:
        found = [zip_frames.read_at(file.fileno(), 5, offset) for offset in (90, 0, 98)]
        monkeypatch.delattr(os, "pread", raising=False)
        assert found == [zip_frames.read_at(file.fileno(), 5, offset) for offset in (90, 0, 98)]
    assert found == [bytes(range(90, 95)), bytes(range(5)), bytes([98, 99])]


def test_the_death_of_a_loader_process_is_told_without_its_memory(monkeypatch):
    error = RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")
    monkeypatch.setattr(memory, "SHM", Path("/none"))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert deaths.death_in_words(error) == (
        "loader process 12 was killed, as the system does where memory runs out; take fewer "
        "--workers or a smaller --batch-size"
    )
    resource = types.SimpleNamespace(
        RUSAGE_CHILDREN=-1, getrusage=lambda who: types.SimpleNamespace(ru_maxrss=2e6)
    )
    monkeypatch.setitem(sys.modules, "resource", resource)
    monkeypatch.setattr(sys, "platform", "darwin")  # which counts bytes, and says no more
    monkeypatch.setattr(deaths, "free_memory", lambda: math.inf)
    monkeypatch.setattr(deaths, "CGROUP", Path("/none"))
    assert "had up to 2 MB; take" in deaths.death_in_words(error)


def test_terminals_of_windows_are_left_as_they_are(monkeypatch):
    """But for letters that they cannot write."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    for name in ("stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "platform", "win32")
    config.as_command()
    assert sys.stdout is stream
    print("\u4e2d", end="")
    assert stream.buffer.getvalue() == b"\\u4e2d"


class OfWindows:
    """The module os of Windows, as far as paths go; it has drives, and two separators."""

    sep, path, getcwd = "\\", ntpath, staticmethod(lambda: "C:\\work")


def test_lists_have_slashes_and_know_drives(monkeypatch):
    monkeypatch.setattr(datalist, "os", OfWindows)
    folder, given = (
        PureWindowsPath("videos_dataset/set"),
        ["a\\1.mp4", "D:\\b\\2.mp4", "D:/c", None],
    )
    assert datalist.resolve(given, folder) == [
        "videos_dataset/set/a/1.mp4",
        "D:/b/2.mp4",
        "D:/c",
        None,
    ]


def test_names_of_videos_on_other_drives_stay_below_the_output(monkeypatch):
    monkeypatch.setattr(paths, "os", OfWindows)
    monkeypatch.setattr(ntpath, "isdir", lambda path: True)
    monkeypatch.setattr(ntpath.os, "getcwd", lambda: "C:\\work")
    name = paths.name_of(Video("D:\\clips\\a.mp4", 0, "", 3), ["C:\\work\\lists"])
    assert name == "clips\\a"
