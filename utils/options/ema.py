"""The average of the weights over the steps of a run."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Exponential moving average of parameters and batch norm's statistics: new weight 1 - decay.

    The early average forgets faster, min(decay, (1 + steps) / (10 + steps)), or it would carry the
    random start for thousands of steps. Source: TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay, self.steps = model, decay, 0
        self.average = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """After each step of the optimizer."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        now = self.model.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        blend = get_ema_multi_avg_fn(decay)
        blend([self.average[name] for name in floats], [now[name] for name in floats], None)
        for name in now.keys() - floats:
            self.average[name].copy_(now[name])  # how many batches batch norm has seen

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.model.state_dict().items():
            own = value.clone()
            value.copy_(self.average[name])
            self.average[name].copy_(own)

    def state_dict(self) -> dict:
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)
