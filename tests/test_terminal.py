"""A terminal that is gone, and signals at bad moments: nothing is lost, no traceback is shown."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

import config
from main import main
from pt_dataset.loader import started
from pt_dataset.processes.signals import FOR_MAIN, set_up_worker
from utils.interrupt import GracefulStop, Stop
from utils.loggers import progress_bar, set_up_console

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def no_terminal(monkeypatch, descriptor):
    """stdout and stderr as commands set them up; no fixture, since pytest sets its own after it."""
    with monkeypatch.context() as patch, os.fdopen(descriptor, "w", buffering=1) as file:
        patch.setattr(config.Terminal, "refusal", "")
        patch.setattr(sys, "excepthook", sys.excepthook)
        for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
            patch.setattr(sys, name, file)
        config.as_command()
        yield
        sys.stdout.flush()  # as at the end of a program
        sys.stderr.flush()


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


def no_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_the_log_goes_on_without_a_terminal_and_says_so_once(tmp_path, monkeypatch):
    log = logging.getLogger("video")
    with no_terminal(monkeypatch, full_disk()):
        set_up_console(tmp_path)
        for line in ("one", "two \udcff", "three"):
            log.info(line)
    lines = [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()]
    gone = "the terminal takes no more: No space left on device"
    assert lines == [gone, "one", "two \\udcff", "three"]


@pytest.mark.parametrize("descriptor", [full_disk, no_reader])
def test_tables_and_bars_take_any_terminal(monkeypatch, descriptor):
    with no_terminal(monkeypatch, descriptor()):
        assert main(["--print-config", "--arch", "i3d", "--dataset", "demo"]) == 0
        assert list(progress_bar(range(3), "bar", 3, "item")) == [0, 1, 2]
        assert config.Terminal.refusal in ("No space left on device", "Broken pipe")


def test_a_name_that_is_no_text_is_printed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with open(tmp_path / "out", "w") as file:
        for name, value in (("stdout", file), ("stderr", None)):  # closed before the start
            monkeypatch.setattr(sys, name, value)
            monkeypatch.setattr(sys, f"__{name}__", value)
        config.as_command()
        print("a\udcffb")
        print("nowhere", file=sys.stderr)
    assert (tmp_path / "out").read_bytes() == b"a\\udcffb\n"


@pytest.mark.parametrize("command", ["main.py --help", "pt_dataset/make_json.py --help"])
def test_head_ends_a_command_quietly(command):
    writer = no_reader()
    script, *argv = command.split()
    process = subprocess.run(
        [sys.executable, ROOT / script, *argv], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, b"")


QUICK = ("assets", "replay", "report")  # import next to nothing
COMMANDS = [
    path
    for path in (*ROOT.glob("*.py"), *ROOT.glob("pt_dataset/*.py"), *ROOT.glob("utils/**/*.py"))
    if '__name__ == "__main__"' in path.read_text() and path.stem not in QUICK
]
AT_IMPORTS = """
import os, signal, sys

# what started the tests may ignore it, as shells do for what runs in the background
is_ctrl_c = signal.{signal} == signal.SIGINT
signal.signal(signal.{signal}, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)

class AtImports:
    def find_spec(self, name, path=None, target=None):
        if name in ("opts", "numpy", "simplejpeg", "torch", "tqdm", "utils.live_page"):
            os.kill(os.getpid(), signal.{signal})

sys.meta_path.insert(0, AtImports())
"""


def stopped_at_imports(path, folder, signum):
    (folder / "sitecustomize.py").write_text(AT_IMPORTS.format(signal=signum))
    env = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, path]
    process = subprocess.run(command, env=env, cwd=folder, capture_output=True, timeout=60)
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_ctrl_c_while_modules_are_imported_is_no_traceback(path, tmp_path):
    assert stopped_at_imports(path, tmp_path, "SIGINT") == (config.INTERRUPTED, b"", b"")


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_scheduler_that_stops_a_run_before_its_first_step_starts_it_again(tmp_path, signum):
    found = stopped_at_imports(ROOT / "main.py", tmp_path, signum)
    assert found == (config.PREEMPTED, b"", b"")


def test_a_second_sigterm_ends_what_hangs():
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as of main.py
    try:
        with GracefulStop():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "count, unit, words",
    [
        (1, "frame", "1 frame"),
        (0, "frame", "0 frames"),
        (2, "other file", "2 other files"),
        (1, "field of flow", "1 field of flow"),
        (3, "field of flow", "3 fields of flow"),
        (2, "other class", "2 other classes"),
    ],
)
def test_one_is_no_plural(count, unit, words):
    assert config.plural(count, unit) == words


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_stops_a_run_unless_that_is_ignored(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with GracefulStop() as stop:
            for _ in range(2):  # the shell sends one, and the system another one
                signal.raise_signal(signal.SIGHUP)
            if ignored:
                stop.check()
            else:
                with pytest.raises(Stop, match="stopped by SIGHUP") as request:
                    stop.check()
                assert request.value.status == config.PREEMPTED
    finally:
        signal.signal(signal.SIGHUP, before)


class Numbers(Dataset):
    def __getitem__(self, index):
        return index

    def __len__(self):
        return 4


def test_signals_to_all_processes_while_loaders_start_are_for_the_main_one(monkeypatch):
    prepare = signal_handling._set_worker_signal_handlers

    def prepared():  # in a loader process, before it is set up
        prepare()
        for signum in FOR_MAIN:
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(signal_handling, "_set_worker_signal_handlers", prepared)
    batches = DataLoader(Numbers(), batch_size=None, num_workers=2, worker_init_fn=set_up_worker)
    assert list(started(batches)) == [0, 1, 2, 3]
