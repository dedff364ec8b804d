"""Metrics and learning rates against values worked out by hand."""

import pytest
import torch

from utils.metrics import mean_class_accuracy, num_correct, top_k
from utils.schedule import lr_factor

SCORES = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = torch.tensor([1, 1, 2, 2])


def test_top_k_counts_rows_whose_label_is_among_the_k_highest():
    assert num_correct(SCORES, LABELS, 1) == 2
    assert num_correct(SCORES, LABELS, 2) == 3
    assert top_k(SCORES, LABELS, 1) == 50
    assert top_k(SCORES, LABELS, 2) == 75


def test_top_5_of_five_classes_or_fewer_says_nothing():
    assert top_k(torch.rand(4, 5), LABELS, 5) is None
    assert top_k(torch.rand(4, 6), LABELS, 5) is not None
    assert top_k(torch.rand(4, 1), torch.zeros(4, dtype=torch.long), 1) == 100


def test_mean_class_accuracy_weighs_classes_not_videos():
    labels = torch.tensor([1, 2, 2, 2])
    assert mean_class_accuracy(SCORES, labels) == pytest.approx(100 * (1 + 1 / 3) / 2)


@pytest.mark.parametrize(
    "step, factor",
    [
        (0, 1 / 21),  # 2 epochs of 10 steps of warm-up
        (19, 20 / 21),
        (20, 1),
        (29, 1),
        (30, 0.1),  # after 3 epochs
        (59, 0.1),
        (60, 0.01),
        (99, 0.01),
    ],
)
def test_the_step_schedule(step, factor):
    assert lr_factor(step, 10, 10, "step", (3, 6), 2) == pytest.approx(factor)


@pytest.mark.parametrize("step, factor", [(0, 1), (50, 0.5), (25, 0.85355339), (100, 0), (120, 0)])
def test_the_cosine_schedule(step, factor):
    assert lr_factor(step, 10, 10, "cosine", (), 0) == pytest.approx(factor)
