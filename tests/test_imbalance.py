"""Classes of very different sizes, and trainings that end where they become no better."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer import batches, make_net, make_trainer, split, train  # noqa: F401
from test_wiring import start  # noqa: F401
from torch import nn

import main
from config import Regularization
from utils import build, words
from utils.actions import head_only
from utils.checkpoint import Saver
from utils.evaluator import validation_metrics
from utils.loggers import Logger
from utils.metrics import uneven
from utils.options.class_weights import balanced_weights
from utils.options.freeze import freeze_norms
from utils.scores import Scores
from utils.trainer import clip_loss

SMOOTH = Regularization(label_smoothing=0.3)


def test_each_class_weighs_the_same_and_a_clip_one_on_average():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = balanced_weights(labels, 5)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 0, 10 / 3, 0]))
    assert weights[labels].mean().item() == pytest.approx(1)
    sums = torch.zeros(5).index_add_(0, labels, weights[labels])
    torch.testing.assert_close(sums, torch.tensor([10, 10, 0, 10, 0]) / 3)


def test_mirrored_videos_count_for_what_they_show():
    labels = torch.tensor([0] * 6 + [1] * 2)  # left and right
    torch.testing.assert_close(balanced_weights(labels, 2, [1, 0], 0.5), torch.ones(2))
    expected = torch.tensor([8 / (2 * 5), 8 / (2 * 3)])  # of each class a quarter
    torch.testing.assert_close(balanced_weights(labels, 2, [1, 0], 0.25), expected)
    only = torch.zeros(4, dtype=torch.long)  # no video of the other class, but mirrored ones
    torch.testing.assert_close(balanced_weights(only, 2, [1, 0], 0.25), torch.tensor([4 / 6, 2]))


def test_a_clip_with_weight_3_is_three_clips():
    """Also of smoothed labels, whose share for other classes is no larger for rare ones."""
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    weighted = clip_loss(logits, labels, SMOOTH, torch.tensor([1.0, 3, 2]))
    repeated = torch.tensor([0, 1, 1, 1, 2, 2, 3, 3, 3])
    torch.testing.assert_close(weighted, clip_loss(logits[repeated], labels[repeated], SMOOTH))
    assert torch.equal(clip_loss(logits, labels, SMOOTH, torch.ones(3)).round(decimals=4),
                       clip_loss(logits, labels, SMOOTH).round(decimals=4))  # fmt: skip


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_the_gradient_is_that_of_a_batch_in_which_clips_are_repeated(batches, micro_batch):  # noqa: F811
    clips, labels = batches[0][:8], batches[1][:8]
    weights = torch.tensor([1.0, 2, 3, 1, 2, 3]).double()
    repeated = torch.arange(8).repeat_interleave(weights[labels].long())
    found = []
    for chosen, how in ((torch.arange(8), weights), (repeated, None)):
        model = make_net()
        options = {"frozen": freeze_norms(model), "label_smoothing": 0.1, "lr": 1, "momentum": 0}
        trainer = make_trainer(model, micro_batch=micro_batch, **options)
        trainer.class_weights = how
        trainer.to_training()
        trainer.train_batch(clips[chosen], labels[chosen])
        found.append(model.head.weight.detach())
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("micro_batch", [3, 5])
def test_blended_clips_of_micro_batches_add_up_to_the_whole_batch(batches, micro_batch):  # noqa: F811
    found = []
    for size in (8, micro_batch):
        model = make_net()
        trainer = make_trainer(
            model, micro_batch=size, frozen=freeze_norms(model), mixup=0.4, clip_grad=0.5
        )
        trainer.class_weights = torch.linspace(0.2, 4, 6).double()
        train(trainer, split(*batches))
        found.append(model.head.weight.detach())
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_a_head_sees_rare_classes_as_often_as_others():
    """Two classes that cannot be told apart: without weights the head always says the larger."""
    torch.manual_seed(0)
    features, labels = torch.zeros(40, 1, 2), torch.tensor([0] * 36 + [1] * 4)
    how = {"dropout": 0, "lr": 0.05, "seed": 0, "epochs": 150}
    shares = []
    for weights in (None, balanced_weights(labels, 2)):
        head = head_only.train_head(features, labels, nn.Linear(2, 2), weights=weights, **how)
        shares.append(head(torch.zeros(2)).softmax(0)[1].item())
    assert shares == pytest.approx([0.1, 0.5], abs=0.03)


def scores_of(labels):
    labels = np.array(labels)
    values = np.tile(np.float32([0.6, 0.4]), (len(labels), 1))
    names = [str(i) for i in range(len(labels))]
    return Scores(values, labels, names, ["a", "b"], "scores", "", loss=0.5)


def test_mean_class_accuracy_is_said_where_it_tells_more_than_top_1():
    metrics = validation_metrics(scores_of([0] * 7 + [1] * 2))
    assert metrics["val/top1"] == pytest.approx(700 / 9)
    assert metrics["val/mean_class_accuracy"] == 50
    assert "val/mean_class_accuracy" not in validation_metrics(scores_of([0] * 6 + [1] * 2))
    assert not uneven(np.array([2, 2, 2, 4, 4]))  # classes without a video do not count
    times = {f"time/{name}": 1.0 for name in ("data", "copy", "step")}
    metrics |= times | {"epoch": 1, "train/loss": 1.0, "train/top1": 50.0, "clips_per_s": 1.0}
    (line, *_) = words.epoch_in_words(metrics, 2, 60, "")
    assert "top-1 77.8 %, mean class accuracy 50.0 % (one center clip a video); 1.0 clips" in line


def saver_of(*validated):
    trainer = type("AtEpoch", (), {"epoch": len(validated), "step": 0})
    return Saver(trainer, Path(), {}, chosen_on="", validated=validated)


def test_epochs_are_waited_for_from_the_first_best_one_on(monkeypatch):
    histories = ((), (5,), (5, 4), (5, 5, 5), (3, 5, 4))
    assert [saver_of(*accuracies).waited for accuracies in histories] == [0, 0, 1, 2, 1]
    saver = saver_of(50, 60)
    monkeypatch.setattr(Saver, "save", lambda *_: None)
    waited = []
    for top1 in (60, 61, 40, 61):
        saver.save_epoch({"val/top1": top1})
        waited.append(saver.waited)
    assert waited == [1, 0, 1, 2]


def with_accuracies(monkeypatch, *top1):
    """The validation of each epoch says these, whatever the network does."""

    def validate(run, trainer, *_):
        return {"val/loss": 1.0, "val/top1": top1[trainer.epoch]}, main.Mistakes(["down", "up"])

    monkeypatch.setattr(main, "validate", validate)


def test_a_training_ends_when_it_has_become_no_better(start, monkeypatch):  # noqa: F811
    """And a resumed one at the same epoch, which does not begin to count anew."""
    argv = [*start, "--views", "1x1", "--no-visdom", "--patience", "2"]
    monkeypatch.setattr(build, "CurvesPng", lambda *_: Logger())  # drawing takes longer than all
    with_accuracies(monkeypatch, 25.0, 75.0, 50.0, 75.0, 100.0)
    assert main.main([*argv, "--name", "whole", "--class-weights", "balanced"]) == 0
    log = Path("saved_model/whole/log.txt").read_text()
    assert (
        "the training ends after epoch 4 of 9: the best top-1 of the validation, 75.0 %, is 2 "
        "epochs old (--patience 2); best.pth has the weights of epoch 2"
    ) in log
    result = json.loads(Path("saved_model/whole/result.json").read_text())
    assert (
        "weights after epoch 4; the end of the training of saved_model/whole followed the "
        in (result["protocol"])
    )
    assert main.main([*argv, "--name", "cut", "--epochs", "3", "--schedule", "step"]) == 0
    resume = ["--resume", "saved_model/cut/last.pth", "--epochs", "9", "--no-visdom"]
    assert main.main([*resume, "--device", "cpu", "--workers", "0"]) == 0
    assert "after epoch 4 of 9" in Path("saved_model/cut/log.txt").read_text()
    # more patience goes on
    assert main.main([*resume, "--patience", "3", "--epochs", "5"]) == 0
    lines = Path("saved_model/cut/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 5
