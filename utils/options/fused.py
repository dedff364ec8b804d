"""What fused optimizers, those of GPUs, need of their momentum."""

import torch


def start_momentum(sgd: torch.optim.SGD) -> None:
    """From zero, where it has not started.

    On its own the fused optimizer makes it at the first step, of memory as it is, and leaves it so
    where that step overflows in float16: from then on garbage moves the weights.
    """
    for group in sgd.param_groups:
        for p in group["params"] if group["momentum"] else ():
            if sgd.state[p].get("momentum_buffer") is None:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)


def fit_moments(optimizer: torch.optim.Optimizer) -> None:
    """Momentum and the like as the parameters lie in memory: fused kernels take no other.

    They come from a run of another layout, or with none yet from one of before its first step.
    """
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if value is not None and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)
    if isinstance(optimizer, torch.optim.SGD):
        start_momentum(optimizer)
