"""One epoch of training."""

import math
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils.metrics import num_correct


class NonFiniteLoss(FloatingPointError):
    """The loss became infinite or not a number."""


class Averages:
    """Running sums of one epoch, or of the steps since they were last read."""

    def __init__(self):
        self.clips = self.steps = self.top1 = self.top5 = 0
        self.loss = self.data_time = self.compute_time = 0.0

    def add(
        self, loss: float, logits: torch.Tensor, labels: torch.Tensor, data: float, compute: float
    ) -> None:
        n = len(labels)
        self.clips, self.steps = self.clips + n, self.steps + 1
        self.loss += loss * n
        self.top1 += num_correct(logits, labels, 1)
        self.top5 += num_correct(logits, labels, 5)
        self.data_time, self.compute_time = self.data_time + data, self.compute_time + compute

    def metrics(self, num_classes: int) -> dict[str, float]:
        """Loss and accuracies over clips, times in seconds a step."""
        metrics = {"train/loss": self.loss / self.clips, "train/top1": 100 * self.top1 / self.clips}
        if num_classes > 5:
            metrics["train/top5"] = 100 * self.top5 / self.clips
        return metrics | {
            "time/data": self.data_time / self.steps,
            "time/compute": self.compute_time / self.steps,
            "time/step": (self.data_time + self.compute_time) / self.steps,
            "clips_per_s": self.clips / (self.data_time + self.compute_time),
        }


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    *,
    epoch: int,
    device: torch.device,
    log_every: int,
    on_log: Callable[[dict[str, float], int], None],
    check: Callable[[], None],
) -> dict[str, float]:
    """Trains on every batch of `loader` once and returns the averages of the epoch.

    Args:
        model: uint8 clips -> logits (utils.normalize.ClipClassifier, wrapped or not).
        epoch: from 0; decides the order and the clips.
        log_every: steps between two calls of `on_log`.
        on_log: gets the averages since its last call, and the time in epochs, such as 2.25.
        check: called between two steps; raises if the run is to stop.

    Raises:
        NonFiniteLoss: before the step that would have spoiled the weights.
    """
    model.train()
    loader.sampler.epoch = epoch
    total, recent = Averages(), Averages()
    num_classes = 0
    with tqdm(
        total=len(loader), desc=f"epoch {epoch + 1}", unit="step", leave=False, dynamic_ncols=True
    ) as bar:
        started = time.perf_counter()
        for i, (clips, labels, _) in enumerate(loader):
            data_time = time.perf_counter() - started
            if not len(labels):  # all of its videos are bad: a step without a clip
                scheduler.step()
                bar.update()
                check()
                started = time.perf_counter()
                continue
            clips = clips.to(device, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            logits = model(clips)
            num_classes = logits.shape[1]
            loss = nn.functional.cross_entropy(logits, labels)
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteLoss(f"the loss is {value} at step {i + 1} of epoch {epoch + 1}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            lr = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            compute_time = time.perf_counter() - started - data_time
            for averages in (total, recent):
                averages.add(value, logits.detach(), labels, data_time, compute_time)
            if (i + 1) % log_every == 0 or i + 1 == len(loader):
                on_log(recent.metrics(num_classes) | {"lr": lr}, epoch + (i + 1) / len(loader))
                recent = Averages()
            bar.set_postfix(
                loss=f"{total.loss / total.clips:.3f}", top1=f"{100 * total.top1 / total.clips:.1f}"
            )
            bar.update()
            check()
            started = time.perf_counter()
    return total.metrics(num_classes) | {"lr": lr}
