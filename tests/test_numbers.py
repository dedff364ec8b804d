"""Metrics and learning rates against values worked out by hand."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from config import Optimization
from utils.averages import Averages, peak_memory_gb
from utils.metrics import mean_class_accuracy, num_correct, top_k
from utils.schedule import Schedule, lr_factor, plateau_drops

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = np.array([1, 1, 2, 2])


def settings_of(schedule, epochs=10, **changes):
    return Optimization(epochs=epochs, batch_size=1, lr=0.1, schedule=schedule, **changes)


def test_top_k_counts_rows_whose_label_is_among_the_k_highest():
    assert num_correct(SCORES, LABELS, 1) == 2
    assert num_correct(SCORES, LABELS, 2) == 3
    assert top_k(SCORES, LABELS, 1) == 50
    assert top_k(SCORES, LABELS, 2) == 75


def test_memory_is_the_peak_of_this_process_in_gib():
    status = Path("/proc/self/status").read_text()
    kib = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert peak_memory_gb(torch.device("cpu")) == pytest.approx(kib / 2**20, rel=0.05)


def test_times_are_those_of_a_step_and_rates_those_of_a_second():
    averages = Averages(torch.device("cpu"), num_classes=3, clip_len=8, clips_per_s_at_peak=20)
    averages.add_clips(torch.zeros(6, 3), torch.zeros(6, dtype=torch.long), torch.tensor(9.0))
    averages.add(clips=6, steps=2, data_time=1, copy_time=0.5, time=3)
    found = averages.metrics(averages.total)
    expected = {"train/loss": 1.5, "train/top1": 100, "utilization": 10}
    expected |= {"time/data": 0.5, "time/copy": 0.25, "time/compute": 0.75, "time/step": 1.5}
    expected |= {"clips_per_s": 2, "frames_per_s": 16}
    assert {name: found[name] for name in expected} == expected
    averages.start_recent()
    assert not any(averages.recent.counts.values()) and averages.total.counts["clips"] == 6


def test_top_5_of_five_classes_or_fewer_says_nothing():
    assert top_k(np.random.rand(4, 5), LABELS, 5) is None
    assert top_k(np.random.rand(4, 6), LABELS, 5) is not None
    assert top_k(np.random.rand(4, 1), np.zeros(4, dtype=int), 1) == 100


def test_mean_class_accuracy_weighs_classes_not_videos():
    labels = np.array([1, 2, 2, 2])
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
    settings = settings_of("step", lr_steps=(3, 6), warmup_epochs=2)
    assert lr_factor(step, 10, settings) == pytest.approx(factor)


@pytest.mark.parametrize("step, factor", [(0, 1), (50, 0.5), (25, 0.85355339), (100, 0), (120, 0)])
def test_the_cosine_schedule(step, factor):
    assert lr_factor(step, 10, settings_of("cosine")) == pytest.approx(factor)


@pytest.mark.parametrize("step", [0, 7, 19, 20, 33, 60, 99])
def test_a_cosine_after_warm_up_goes_from_one_to_zero(step):
    cosine = (1 + math.cos(math.pi * (step - 20) / 80)) / 2
    expected = (step + 1) / 21 if step < 20 else cosine
    settings = settings_of("cosine", warmup_epochs=2)
    assert lr_factor(step, 10, settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    "losses, drops",
    [
        ([], 0),
        ([3, 2, 1], 0),
        ([3, 2, 2], 0),  # one epoch without a lower one
        ([3, 2, 2, 2], 1),  # two of them
        ([3, 2, 2.5, 1.9, 2, 2], 1),
        ([1, 1, 1, 1, 1], 2),  # and two more
        ([1, 1, 1, 0.5, 1, 1], 2),
    ],
)
def test_a_plateau_drops_after_so_many_epochs_without_a_lower_loss(losses, drops):
    assert plateau_drops(losses, patience=2) == drops


def test_a_schedule_sets_each_group_to_its_own_rate():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [p], "initial_lr": lr, "lr": lr}
        for p, lr in zip(parameters, (0.1, 0.2), strict=True)
    ]
    optimizer = torch.optim.SGD(groups)
    settings = settings_of("plateau", epochs=9, plateau_patience=1)
    schedule = Schedule(optimizer, 10, settings)
    assert schedule.set_lr(50) == pytest.approx(0.1)
    schedule.losses += [1.0, 2.0]
    assert schedule.set_lr(51) == pytest.approx(0.01)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.02)
    other = Schedule(optimizer, 10, settings)
    other.losses = schedule.state_dict()["losses"]
    assert other.set_lr(52) == pytest.approx(0.01)
