"""Which run folders a new run may take."""

import signal
from pathlib import Path

import pytest
import torch
from test_wiring import start  # noqa: F401

import main
from config import UserError
from utils.interrupt import GracefulStop
from utils.trainer import Trainer

FOLDER = Path("saved_model/x")


@pytest.fixture
def argv(start):  # noqa: F811
    return [*start, "--views", "1x1", "--no-visdom", "--epochs", "1", "--name", "x"]


def killed(*_):
    raise KeyboardInterrupt


def test_a_run_that_was_killed_in_its_first_step_does_not_block_the_next_one(argv, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_batch", killed)
        main.main(argv)
    before = torch.load(FOLDER / "last.pth")
    (FOLDER / "steps.jsonl").write_text('{"step": 1, "epoch": 0.5}\n')  # never kept
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_batch", killed)
        main.main([*argv, "--seed", "3"])
    assert (FOLDER / "steps.jsonl").read_text() == ""
    after = torch.load(FOLDER / "last.pth")  # nor is that of other options kept
    assert not torch.equal(before["model"]["head.weight"], after["model"]["head.weight"])
    assert main.main(argv) == 0
    with pytest.raises(UserError, match="the run folder saved_model/x exists; go on with --resume"):
        main.main(argv)


@pytest.mark.parametrize("name", ["best.pth", "result.json", "notes.txt", "last.pth"])
def test_a_folder_with_anything_else_is_not_touched(argv, name):
    FOLDER.mkdir(parents=True)
    (FOLDER / name).write_text("mine")
    with pytest.raises(UserError, match="the run folder saved_model/x exists") as error:
        main.main(argv)
    assert ("go on with --resume" in str(error.value)) == (name == "last.pth")
    assert [path.name for path in FOLDER.iterdir()] == [name]
    assert (FOLDER / name).read_text() == "mine"


def test_a_head_alone_has_no_step_and_is_kept(argv):
    assert main.main(argv) == 0
    for path in FOLDER.iterdir():
        if path.name not in ("last.pth", "log.txt"):
            path.unlink()
    state = torch.load(FOLDER / "last.pth")
    torch.save(state | {"step": 0, "epoch": 0, "action": "head_only"}, FOLDER / "last.pth")
    with pytest.raises(UserError, match="the run folder saved_model/x exists"):
        main.main(argv)


def test_a_signal_does_not_end_a_process_that_has_still_to_say_whom_it_lost(monkeypatch):
    """torchrun sends SIGTERM to all others as soon as one of them has ended."""
    monkeypatch.setattr("utils.distributed.lost_another", lambda error: "gloo" in str(error))
    for error, kept in ((RuntimeError("gloo: closed"), True), (RuntimeError("other"), False)):
        with pytest.raises(RuntimeError), GracefulStop() as stop:
            raise error
        assert (signal.getsignal(signal.SIGTERM) == stop._request) == kept
        signal.signal(signal.SIGTERM, stop.previous[signal.SIGTERM])
        signal.signal(signal.SIGINT, stop.previous[signal.SIGINT])
