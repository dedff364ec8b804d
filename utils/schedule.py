"""Learning rates over a run."""

import math


def lr_factor(
    step: int,
    steps_per_epoch: int,
    epochs: int,
    schedule: str,
    lr_steps: tuple[int, ...],
    warmup_epochs: float,
) -> float:
    """What the learning rate is multiplied by at optimizer step `step` (from 0).

    "step": 1, then a tenth of it after each epoch of `lr_steps`; "cosine": half a cosine from 1 to
    0 between warm-up and end. The first `warmup_epochs` rise linearly to 1.
    """
    epoch = step / steps_per_epoch
    if epoch < warmup_epochs:
        return (step + 1) / (warmup_epochs * steps_per_epoch + 1)
    if schedule == "step":
        return 0.1 ** sum(epoch >= boundary for boundary in lr_steps)
    done = min((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9), 1)
    return 0.5 * (1 + math.cos(math.pi * done))
