"""Questions that need no torch are answered without the seconds that it takes to import."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import startup

ROOT = Path(__file__).resolve().parents[1]
SLOW = {"torch", "torchvision", "av", "cv2", "matplotlib", "visdom"}
RUN = ["--arch", "i3d", "--dataset", "demo"]
# runs a script as `python SCRIPT WORD ...` does, then says which modules it took
REPORT = """
import atexit, runpy, sys
atexit.register(lambda: print("\\nimported:", *sys.modules))
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def is_script(file):
    tree = ast.parse(file.read_text())
    return any(isinstance(n, ast.If) and "__main__" in ast.unparse(n.test) for n in tree.body)


SCRIPTS = [
    file
    for pattern in ("*.py", "pt_dataset/*.py", "utils/*.py", "utils/live_page/*.py")
    for file in sorted(ROOT.glob(pattern))
    if is_script(file)
]


def imported(tmp_path, *command):
    """Its output, and the packages imported by a command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *map(str, command)],
        cwd=tmp_path,  # any
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    out, _, modules = done.stdout.rpartition("\nimported:")
    return out, {name.partition(".")[0] for name in modules.split()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_help_imports_nothing_slow(script, tmp_path):
    out, packages = imported(tmp_path, script, "--help")
    assert out.startswith("usage: ")
    assert "argparse" in packages  # the report is one
    assert not packages & SLOW


def test_the_options_of_a_run_are_printed_without_anything_slow(tmp_path):
    out, packages = imported(tmp_path, ROOT / "main.py", *RUN, "--print-config")
    assert "batch_size" in out
    assert not packages & SLOW


def test_lists_are_read_without_anything_slow(tmp_path):
    script = tmp_path / "read.py"
    script.write_text(f"import sys; sys.path.insert(0, '{ROOT}'); import pt_dataset.datalist")
    _, packages = imported(tmp_path, script)
    assert "numpy" in packages
    assert not packages & SLOW


def test_a_run_imports_no_torchvision_and_no_ffmpeg_unless_it_needs_them(tmp_path):
    script = tmp_path / "import_main.py"
    script.write_text(f"import sys; sys.path.insert(0, '{ROOT}'); import main, models.i3d")
    _, packages = imported(tmp_path, script)
    assert "torch" in packages
    assert not packages & (SLOW - {"torch"})


def once(work, repeats):
    """Without the round that only warms up."""
    seconds = {}
    for name, run in work.items():
        started = time.perf_counter()
        run()
        seconds[name] = [time.perf_counter() - started]
    return seconds


@pytest.mark.slow
def test_every_wait_is_measured(monkeypatch):
    small = ("--clip-len", "8", "--crop-size", "32", "--short-side", "32", "--batch-size", "2")
    monkeypatch.setattr(startup, "RUN", (*startup.RUN, *small))
    monkeypatch.setattr(startup.make_demo, "NUM_VIDEOS", {"train": 8, "test": 2})
    monkeypatch.setattr(startup.results, "interleaved", once)
    seconds = {row["what"]: row["seconds"] for row in startup.measure(1, 100)}
    assert [name for name in seconds if "a list of" in name] == ["a list of 100 entries"]
    assert seconds["main.py --help"] < seconds["import torch"]
    assert seconds["import torch"] < seconds["i3d on the demo set, first step"]
