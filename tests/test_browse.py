"""The picture of what a network sees."""

import json

import numpy as np
import pytest
from conftest import add_flow
from PIL import Image

from config import UserError
from pt_dataset import browse

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
        (["--clip-len", "0"], "--clip-len must be at least 1"),
        (["--crop-size", "40"], "neither less than --crop-size"),
        (["--color-jitter", "0", "0", "0", "1"], "the hue 0.5 at most"),
        (["--crop-area", "0.5", "2"], "--crop-area takes numbers above 0, 1 at most"),
        (["--crop-ratio", "2", "1"], "--crop-ratio takes the lowest, then the highest"),
        (["--modality", "flow"], "--modality flow needs"),
        (["--modality", "rgbdiff"], "--modality rgbdiff is not for i3d"),
        (["--out", "nowhere/x.png"], "nowhere/x.png cannot be written"),
        (["--out", "x.foo"], "x.foo cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(tiny_set, argv, message):
    with pytest.raises(UserError, match=message):
        picture(tiny_set, *argv)
