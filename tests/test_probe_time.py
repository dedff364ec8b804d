"""Does a network use time?"""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from config import ARCHS, Arch, Preprocessing, Recipe
from main import main
from utils import checkpoint
from utils.actions import probe_time
from utils.recipes import RECIPES
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


class Seer(nn.Module):
    """Sees whether the last frame is brighter than the first: class up of data/tiny."""

    def __init__(self, num_classes, dropout=0.0, bn_momentum=0.1, in_channels=3):
        super().__init__()
        self.head = nn.Linear(1, num_classes)

    def forward(self, clip):
        brightness = clip.mean(dim=(1, 3, 4))
        return self.head(brightness[:, -1:] - brightness[:, :1])


def test_a_network_that_lives_by_the_order_of_frames_is_found_out(in_tiny_set, monkeypatch, capsys):
    module = ModuleType("models.seer")
    module.Seer = Seer
    monkeypatch.setitem(sys.modules, "models.seer", module)
    monkeypatch.setitem(ARCHS, "seer", Arch(network="Seer"))
    model = Seer(2)
    nn.init.constant_(model.head.bias, 0)
    model.head.weight.data = torch.tensor([[-1.0], [1.0]])
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    clip = Preprocessing(clip_len=4, short_side=36, crop_size=32, **pixels)
    state = dict.fromkeys(checkpoint.KEYS) | {
        "arch": "seer",
        "arch_args": {},
        "class_names": ["down", "up"],
        "preprocessing": vars(clip),
        "model": model.state_dict(),
        "epoch": 1,
        "choices": [],
        "action": "train",
    }
    checkpoint.save(state, Path("net.pth"))
    Path("saved_model/x").mkdir(parents=True)
    argv = ["--arch", "seer", "--dataset", "tiny", "--data-root", "data", "--name", "x"]
    argv += ["--resume", "net.pth", "--evaluate", "--probe-time", "--views", "1"]
    monkeypatch.setitem(
        RECIPES, ("seer", "scratch"), Recipe(clip_len=4, epochs=1, batch_size=4, lr=1)
    )
    before, score = [], probe_time.score

    def scored(run, *args, **how):
        before.append(len(run.view_loaders))
        return score(run, *args, **how)

    monkeypatch.setattr(probe_time, "score", scored)
    assert main([*argv, "--device", "cpu", "--workers", "0", "--precision", "fp32"]) == 0
    assert before == [0] * 4  # no order keeps the processes of the one before
    top1 = json.loads(Path("saved_model/x/probe_time.json").read_text())["top1"]
    assert list(top1) == ["normal", "reversed", "shuffled", "frozen"]
    assert (top1["normal"], top1["reversed"], top1["frozen"]) == (100, 0, 50)
    assert "tiny split 1" in capsys.readouterr().out
