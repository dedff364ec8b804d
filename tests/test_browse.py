"""The picture of what a network sees."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from conftest import add_flow
from PIL import Image

from config import Augmentation, Clip, UserError
from pt_dataset import browse

ROOT = Path(__file__).resolve().parents[1]

ARGV = ["--dataset", "tiny", "--clip-len", "4", "--stride", "2", "--short-side", "36"]
ARGV += ["--crop-size", "32", "--num", "3"]


def picture(root, *argv):
    out = root / "seen.png"
    browse.main([*ARGV, "--data-root", str(root), "--out", str(out), *argv])
    return np.asarray(Image.open(out).convert("RGB")).astype(int)


def test_a_row_is_a_clip_and_a_column_a_frame(tiny_set, capsys):
    seen = picture(tiny_set)
    assert "3 training clips of tiny" in capsys.readouterr().out
    height, width = 3 * (browse.INCHES + 0.6) * 110, 4 * browse.INCHES * 110
    assert seen.shape == (pytest.approx(height, abs=1), pytest.approx(width, abs=1), 3)
    rows = [
        seen[int(height * (i + 0.7) / 3), [int(width * (j + 0.5) / 4) for j in range(4)], 0]
        for i in range(3)
    ]
    for row in rows:  # frames of these videos get brighter or darker by 20 each
        steps = np.diff(row)
        assert np.abs(np.abs(steps) - 40).max() < 6  # stride 2
        assert len(set(np.sign(steps))) == 1


def test_flow_is_drawn_in_colors(tiny_set):
    add_flow(tiny_set / "tiny")
    seen = picture(tiny_set, "--modality", "flow", "--flip-prob", "0")
    middle = seen[int(seen.shape[0] * 0.7 / 3), seen.shape[1] // 8]
    assert 98 <= middle[0] <= 118  # u
    assert middle[1:] == pytest.approx([30, 128], abs=3)  # v, and no third value


def test_a_class_name_is_not_taken_for_a_formula(tiny_set):
    folder = tiny_set / "tiny"
    (folder / "classes.txt").write_text("do$wn\nu$p\n")
    for path in folder.glob("*.json"):
        entries = json.loads(path.read_text())
        for entry in entries:
            entry["class_name"] = {"down": "do$wn", "up": "u$p"}[entry["class_name"]]
        path.write_text(json.dumps(entries))
    assert picture(tiny_set).min() == 0


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--num", "0"], "--num must be at least 1"),
        (["--crop-size", "40"], "--crop-size 40 is more than the short side of 36"),
        (["--short-side", "40", "36"], "--short-side takes .* the lowest and the highest"),
        (["--color-jitter", "0", "0", "0", "1"], "half a turn, 0.5, at most"),
        (["--crop-ratio", "2", "1"], "--crop-ratio takes the lowest, then the highest"),
        (["--modality", "flow"], "--modality flow needs"),
        (["--modality", "rgbdiff"], "--modality rgbdiff is not for i3d"),
        (["--out", "nowhere/x.png"], "nowhere/x.png cannot be written"),
        (["--out", "."], "--out . is a folder; name a file"),
        (["--out", "x.foo"], "x.foo cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(tiny_set, argv, message):
    with pytest.raises(UserError, match=message):
        picture(tiny_set, *argv)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--clip-len", "0"], "--clip-len: 0 must be at least 1"),
        (["--crop-area", "0.5", "2"], "--crop-area: 2 must be between 0.01 and 1"),
        (["--crop", "round"], "--crop: invalid choice: 'round'"),
    ],
)
def test_options_have_the_limits_of_their_fields(tiny_set, argv, message, capsys):
    with pytest.raises(SystemExit):
        picture(tiny_set, *argv)
    assert message in capsys.readouterr().err


def test_every_option_that_decides_over_clips_is_known():
    known = vars(browse.build_parser().parse_args(["--dataset", "x"]))
    options = {action.dest for action in browse.build_parser()._actions}
    assert options - known.keys() - {"help"} == {
        f.name for f in (*fields(Clip), *fields(Augmentation))
    }


FIELD = """    darker: float = option(0.0, "share of the light that is taken away", low=0, high=1)
"""
FUNCTION = """

@clip_augmentation
def take_light(clip, augmentation, rng):
    return (clip * (1 - augmentation.darker)).to(clip.dtype)
"""


def test_a_field_and_a_function_are_an_augmentation(tiny_set):
    """In a copy of the code, as somebody would write it who adds one."""
    code = tiny_set / "code"
    code.mkdir()
    for room in ("pt_dataset", "utils/recipes"):
        shutil.copytree(ROOT / room, code / room)
    text = (ROOT / "config.py").read_text()
    others = "    short_side: tuple[int, int] = used("
    assert text.count(others) == 1
    (code / "config.py").write_text(text.replace(others, FIELD + others))
    with (code / "pt_dataset" / "transforms.py").open("a") as file:
        file.write(FUNCTION)
    out = tiny_set / "dark.png"
    argv = [code / "pt_dataset" / "browse.py", *ARGV, "--data-root", tiny_set, "--out", out]
    subprocess.run([sys.executable, *argv, "--darker", "1"], check=True)
    dark, plain = np.asarray(Image.open(out).convert("RGB")).astype(int), picture(tiny_set)
    place = int(plain.shape[0] * 0.7 / 3), plain.shape[1] // 8
    assert dark[place].max() == 0
    assert plain[place].min() > 15
