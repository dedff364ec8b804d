"""Learning rates over a run."""

import math
from collections.abc import Sequence

import torch

from config import Optimization


def lr_factor(step: int, steps_per_epoch: int, settings: Optimization, drops: int = 0) -> float:
    """What the learning rate is multiplied by at optimizer step `step` (from 0).

    "step": 1, then a tenth of it after each epoch of `lr_steps`; "cosine": half a cosine from 1 to
    0 between warm-up and end; "plateau": a tenth for each of `drops`. The first `warmup_epochs`
    rise linearly to 1.
    """
    epoch, warmup_epochs = step / steps_per_epoch, settings.warmup_epochs
    if epoch < warmup_epochs:
        # + 1: the first step moves already, and the first one after the warm-up has the full rate
        return (step + 1) / (warmup_epochs * steps_per_epoch + 1)
    if settings.schedule == "step":
        return 0.1 ** sum(epoch >= boundary for boundary in settings.lr_steps)
    if settings.schedule == "plateau":
        return 0.1**drops
    done = min((epoch - warmup_epochs) / max(settings.epochs - warmup_epochs, 1e-9), 1)
    return 0.5 * (1 + math.cos(math.pi * done))


def plateau_drops(losses: Sequence[float], patience: int) -> int:
    """How often the rate has dropped after validations with these losses.

    It drops when `patience` epochs have brought no loss below the lowest, and waits as many again
    before the next drop.
    """
    best, waited, drops = float("inf"), 0, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == patience:
            waited, drops = 0, drops + 1
    return drops


class Schedule:
    """Sets the rates of an optimizer: a function of the step and of the validation losses so far.

    Args:
        optimizer: its groups have their `initial_lr`.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, steps_per_epoch: int, settings: Optimization
    ):
        self.optimizer, self.steps_per_epoch, self.settings = optimizer, steps_per_epoch, settings
        self.losses: list[float] = []  # of the validation after each epoch

    def set_lr(self, step: int) -> float:
        """Sets the rates for step `step` (from 0) and returns that of the first group."""
        drops = plateau_drops(self.losses, self.settings.plateau_patience)
        factor = lr_factor(step, self.steps_per_epoch, self.settings, drops)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict[str, list[float]]:
        return {"losses": list(self.losses)}
