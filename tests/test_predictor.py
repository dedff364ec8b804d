"""A network from Python: what --predict says, and nothing else happens."""

import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import read_table, write_frames
from PIL import Image

from config import UserError, Views
from main import main
from utils.actions.predict import Predictor

VIDEOS = [f"videos/{name}" for name in "abc"]


@pytest.fixture
def predict(untrained, monkeypatch):
    """The network of `untrained`, in a program with a command line of its own."""
    for i, path in enumerate(VIDEOS):
        write_frames(Path(path), 7 + i, size=(50 + i, 40), scheme="{:03d}.png")
    monkeypatch.setattr(sys, "argv", ["serve.py", "--port", "80"])
    return Predictor(untrained, device="cpu", views="2x3")


def pixels_of(path):
    return np.stack([np.asarray(Image.open(file)) for file in sorted(Path(path).iterdir())])


def test_it_says_what_the_table_says_of_paths_and_of_pixels(predict, untrained):
    how = ["--resume", str(untrained), "--views", "2x3", "--device", "cpu", "--workers", "0"]
    assert main([*how, "--predict", *VIDEOS]) == 0
    _, table = read_table(Path("predictions/predictions.csv"))
    for path, expected in zip(VIDEOS, table, strict=True):
        for video in (path, Path(path), pixels_of(path)):
            found = predict(video)
            assert {name: round(score, 5) for name, score in found.items()} == expected
            assert list(found) == list(expected)  # the best one first
    assert predict(VIDEOS) == predict([pixels_of(path) for path in VIDEOS])
    assert len({found["up"] for found in predict(VIDEOS)}) == 3


def test_threads_share_one(predict):
    alone = predict(VIDEOS)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(predict, VIDEOS * 8))
    assert found == alone * 8


def test_it_leaves_the_program_as_it_is(predict, capfd):
    def state():
        loggers = [logging.getLogger(name) for name in (None, "video")]
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        return [(log.level, log.handlers[:], log.propagate) for log in loggers], handlers

    before, files = state(), set(Path().rglob("*"))
    predict(["videos/a", pixels_of("videos/b")])
    with pytest.raises(UserError):
        predict("absent.mp4")
    assert state() == before
    assert set(Path().rglob("*")) == files
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "video, sentence",
    [
        ("absent.mp4", "absent.mp4: there is no such file or folder"),
        ("videos", "videos holds 3 videos: give a list of them"),
        (np.zeros((4, 40, 40, 3)), r"uint8 .T, H, W, 3. in RGB, and not float64 .4, 40, 40, 3."),
        (np.zeros((40, 40, 3), np.uint8), r"not uint8 .40, 40, 3., .* give np.stack.frames.$"),
        (torch.zeros(4, 40, 40, 3, requires_grad=True), r"in RGB: Can't call numpy"),
        ((frame for frame in np.zeros((4, 40, 40, 3), np.uint8)), "in RGB, and not generator$"),
        (np.zeros((0, 40, 40, 3), np.uint8), r"not uint8 .0, 40, 40, 3."),
    ],
)
def test_what_is_no_video_is_named(predict, video, sentence):
    with pytest.raises(UserError, match=sentence):
        predict(video)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(33, 40), (32, 24)])
def test_frames_need_not_be_writable_or_in_a_row(predict, size, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (9, *size, 3), np.uint8)
    expected = predict(frames)
    torch.set_warn_always(True)
    monkeypatch.setattr("pt_dataset.transforms.opencv", lambda: None)  # torch is stricter
    expected_of_torch = predict(frames)
    for same in (frames[::-1].copy()[::-1], np.asfortranarray(frames), torch.from_numpy(frames)):
        assert predict(same) == expected_of_torch
    frames.setflags(write=False)
    assert predict(frames) == expected_of_torch
    monkeypatch.undo()
    assert predict(frames) == expected
    torch.set_warn_always(False)


@pytest.mark.parametrize("fps", [0, -25, float("nan"), float("inf")])
def test_a_rate_is_above_zero(predict, fps):
    with pytest.raises(UserError, match="fps is .* not above 0"):
        predict(pixels_of("videos/a"), fps=fps)


def test_the_rate_may_be_an_option_and_a_fraction(predict, untrained):
    in_windows = Predictor(untrained, device="cpu", sliding_window=0.3, fps=10)
    frames = pixels_of("videos/c")
    assert in_windows(frames) == in_windows(frames, fps=Fraction(10))
    assert in_windows(frames) != in_windows(frames, fps=20)


def test_as_many_views_at_once_as_fit_of_each_size(untrained, monkeypatch):
    asked = []

    def fits(model, shape, most, device, workers, together):
        asked.append((shape[1], workers, together))
        return 3

    monkeypatch.setattr("utils.actions.network.views_that_fit", fits)
    few, many = np.zeros((2, 4, 40, 40, 3), np.uint8)
    predict = Predictor(untrained, device="cpu", views="5x3")
    assert predict([few, many]) == [predict(few)] * 2
    assert asked == [(5, 0, 3)]  # segments of a view, once
    Predictor(untrained, device="cpu", views="5x3", batch_size=2)(few)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "how, sentence",
    [
        ({"checkpoint": "absent.pth"}, "absent.pth"),
        ({}, "needs --resume CHECKPOINT, or --arch and --pretrained"),
        ({"checkpoint": "x.pth", "size": 3}, "Predictor has no option size"),
        ({"checkpoint": "x.pth", "annotate": "x.mp4"}, "Predictor has no option annotate"),
        ({"checkpoint": "x.pth", "batch_size": "3"}, "cannot use an option: batch_size is '3'"),
        ({"checkpoint": "x.pth", "lr": 0.1}, "--lr means nothing to --predict"),
        ({"checkpoint": "x.pth", "views": "many"}, "many"),
    ],
)
def test_what_is_no_network_is_named(how, sentence):
    with pytest.raises(UserError, match=sentence):
        Predictor(**how)


def test_options_are_those_of_the_command_line(untrained):
    assert Predictor(untrained).network.evaluation.views == Views(1, 1)
    predict = Predictor(untrained, views=Views(3, 10), average="logits", device="cpu")
    assert (predict.network.evaluation.views, predict.network.evaluation.average) == (
        *(Views(3, 10), "logits"),
    )
