"""Does a network use time?"""

import json
from pathlib import Path

import numpy as np
from conftest import write_frames

from main import main
from utils.actions import probe_time
from utils.scores import Scores

PREDICTED = {"normal": [0, 0, 1, 1], "reversed": [1, 1, 0, 0], "frozen": [0, 0, 0, 0]}


def summary(class_names):
    """Of four videos, two of each class."""
    labels, names = np.array([0, 0, 1, 1]), list("abcd")
    return probe_time.summarize_orders(
        {
            order: Scores(np.eye(2)[predicted], labels, names, class_names, "scores", "as said")
            for order, predicted in PREDICTED.items()
        }
    )


def test_accuracies_are_counted_over_all_and_per_class():
    result = summary(["left", "right"])
    assert result["top1"] == {"normal": 100, "reversed": 0, "frozen": 50}
    expected = {"normal": 100, "reversed": 0, "frozen": 0, "num_videos": 2}
    assert result["classes"]["right"] == expected
    assert (result["chance"], result["num_videos"], result["protocol"]) == (50, 4, "as said")
    rows = [line.split() for line in probe_time.orders_in_words(result).splitlines()]
    assert rows[1] == ["all", "100.0", "0.0", "50.0"]
    assert rows[2] == ["left", "100.0", "0.0", "100.0"]


def test_the_picture_is_written(tmp_path):
    result = summary(["$left_$", "right"])
    paths = probe_time.write_orders(tmp_path, result)
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
