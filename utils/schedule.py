"""Learning rates over a run."""

import math
from collections.abc import Sequence

import torch


def lr_factor(
    step: int,
    steps_per_epoch: int,
    epochs: int,
    schedule: str,
    lr_steps: Sequence[int] = (),
    warmup_epochs: float = 0,
    drops: int = 0,
) -> float:
    """What the learning rate is multiplied by at optimizer step `step` (from 0).

    "step": 1, then a tenth of it after each epoch of `lr_steps`; "cosine": half a cosine from 1 to
    0 between warm-up and end; "plateau": a tenth for each of `drops`. The first `warmup_epochs`
    rise linearly to 1.
    """
    epoch = step / steps_per_epoch
    if epoch < warmup_epochs:
        return (step + 1) / (warmup_epochs * steps_per_epoch + 1)
    if schedule == "step":
        return 0.1 ** sum(epoch >= boundary for boundary in lr_steps)
    if schedule == "plateau":
        return 0.1**drops
    done = min((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9), 1)
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
        of_lr_factor: arguments of `lr_factor`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, plateau_patience: int = 5, **of_lr_factor):
        self.optimizer, self.patience, self.of_lr_factor = optimizer, plateau_patience, of_lr_factor
        self.losses: list[float] = []  # of the validation after each epoch

    def set_lr(self, step: int) -> float:
        """Sets the rates for step `step` (from 0) and returns that of the first group."""
        drops = plateau_drops(self.losses, self.patience)
        factor = lr_factor(step, drops=drops, **self.of_lr_factor)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict:
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: dict) -> None:
        self.losses = list(state["losses"])
