from pathlib import Path

import pytest
import torch

from config import Preprocessing, UserError
from utils import checkpoint, trainer
from utils.resume import checkpoint_file

STATE = dict.fromkeys(checkpoint.KEYS) | {
    "arch": "i3d",
    "arch_args": {},
    "class_names": ["down", "up"],
    "preprocessing": vars(Preprocessing(clip_len=8, mean=(0.5,) * 3, std=(0.5,) * 3)),
    "model": {"w": torch.ones(3)},
    "epoch": 0,
    "choices": [],
    "action": "train",
}


def test_a_checkpoint_comes_back(tmp_path):
    checkpoint.save(STATE, tmp_path / "last.pth")
    assert torch.equal(checkpoint_file.load(tmp_path / "last.pth")["model"]["w"], torch.ones(3))


def test_a_checkpoint_of_before_some_keys_comes_back_with_what_it_stands_for(tmp_path):
    old = {key: value for key, value in STATE.items() if key not in ("scaler", "faults")}
    checkpoint.save(old, tmp_path / "last.pth")
    state = checkpoint_file.load(tmp_path / "last.pth")
    assert set(state) == set(checkpoint.KEYS)
    assert (state["scaler"], state["faults"]) == (None, {})


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    checkpoint.save(STATE, path)

    write = Path.write_bytes

    def fail(path, data):
        write(path, bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match="No space left on device.*the one before it is kept"):
        checkpoint.save(STATE | {"epoch": 2}, path)
    assert checkpoint_file.load(path)["epoch"] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no checkpoint"),
        (b"", "is not a checkpoint"),
        (b"<html>", "is not a checkpoint"),
        ({"state_dict": {}}, "is not a checkpoint of this project"),
        ([1], "is not a checkpoint of this project"),
        ("cut", "is not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_one_clear_error(tmp_path, content, message):
    path = tmp_path / "last.pth"
    if content == "cut":
        checkpoint.save(STATE, path)
        path.write_bytes(path.read_bytes()[:-200])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as error:
        checkpoint_file.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model", "ema"])
def test_weights_that_are_not_finite_are_refused(tmp_path, where, value):
    bad = {"w": torch.tensor([1, value])}
    averaged = {"average": bad, "steps": 1}
    good = {"w": torch.ones(2)}
    state = STATE | ({"model": bad} if where == "model" else {"model": good, "ema": averaged})
    checkpoint.save(state, tmp_path / "last.pth")
    with pytest.raises(UserError, match="last.pth holds weights that are not finite: its training"):
        checkpoint_file.load(tmp_path / "last.pth")


def test_random_states_come_back():
    state = trainer.rng_state()
    first = torch.rand(3)
    checkpoint_file.set_rng_state(state)
    assert torch.equal(torch.rand(3), first)
