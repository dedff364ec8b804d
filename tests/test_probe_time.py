"""Does a network use time?"""

import json
from pathlib import Path

import torch
from conftest import write_frames

from main import main
from utils import probe_time

SCORES = {
    "normal": torch.eye(2)[[0, 0, 1, 1]],
    "reversed": torch.eye(2)[[1, 1, 0, 0]],
    "frozen": torch.eye(2)[[0, 0, 0, 0]],
}
LABELS = torch.tensor([0, 0, 1, 1])


def test_accuracies_are_counted_over_all_and_per_class():
    result = probe_time.result_of(SCORES, LABELS, ["left", "right"], "as said")
    assert result["top1"] == {"normal": 100, "reversed": 0, "frozen": 50}
    of_right = {"normal": 100, "reversed": 0, "frozen": 0, "num_videos": 2}
    assert result["classes"]["right"] == of_right
    assert result["chance"] == 50
    rows = [line.split() for line in probe_time.table(result).splitlines()]
    assert rows[1] == ["all", "100.0", "0.0", "50.0"]
    assert rows[2] == ["left", "100.0", "0.0", "100.0"]


def test_the_picture_is_written(tmp_path):
    result = probe_time.result_of(SCORES, LABELS, ["$left_$", "right"], "as said")
    paths = probe_time.write(tmp_path, result)
    assert [path.name for path in paths] == ["probe_time.json", "probe_time.png"]
    assert paths[1].stat().st_size > 5000


def test_a_network_whose_segments_are_averaged_does_not_see_their_order(untrained, capsys):
    for name in ("down/test_0", "up/test_1", "down/test_2", "up/test_3"):
        write_frames(Path("data/tiny/frames") / name, 10)
    Path("saved_model/x").mkdir(parents=True)
    argv = ["--arch", "tsn", "--dataset", "tiny", "--data-root", "data", "--name", "x"]
    argv += ["--resume", str(untrained), "--evaluate", "--probe-time", "--views", "1"]
    assert main([*argv, "--device", "cpu", "--workers", "0", "--precision", "fp32"]) == 0
    top1 = json.loads(Path("saved_model/x/probe_time.json").read_text())["top1"]
    assert list(top1) == ["normal", "reversed", "shuffled", "frozen"]
    assert top1["normal"] == top1["reversed"] == top1["shuffled"]
    assert "tiny split 1" in capsys.readouterr().out
