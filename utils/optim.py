"""Optimizers, and the parameters with rates of their own."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from config import Optimization, UserError


def build_optimizer(model: nn.Module, settings: Optimization) -> torch.optim.Optimizer:
    """SGD or AdamW over what is to be trained, fused into few kernels on a GPU.

    Raises:
        UserError: nothing is left to train.
    """
    groups = parameter_groups(model, settings.decay_norm)
    if not groups:
        raise UserError("--freeze leaves nothing to train: name an earlier stage")
    if settings.layer_decay != 1:
        from utils.options.layer_decay import by_layer

        groups = by_layer(groups, model, settings.layer_decay)
    for group in groups:
        set_rates(group, settings)
    fused = next(model.parameters()).is_cuda
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    sgd = torch.optim.SGD(
        groups, momentum=settings.momentum, nesterov=settings.nesterov, fused=fused
    )
    from utils.options.fused import start_momentum

    start_momentum(sgd)
    return sgd


def set_rates(group: dict[str, Any], settings: Optimization) -> None:
    """Gives a group of parameters the rates of the run, times its own multipliers."""
    group["lr"] = group["initial_lr"] = settings.lr * group["lr_mult"]
    group["weight_decay"] = settings.weight_decay * group["decay_mult"]


def parameter_groups(model: nn.Module, decay_norm: bool) -> list[dict[str, Any]]:
    """The trained parameters with their `lr_mult` and `decay_mult`.

    A network's own `parameter_groups` come first, as its paper has them, those with a plain
    learning rate before the others; else batch norm is a group of its own if it does not decay.
    """
    if own_groups := getattr(model, "parameter_groups", None):
        groups: list[dict[str, Any]] = sorted(own_groups(), key=lambda group: group["lr_mult"] != 1)
    else:
        layers = [] if decay_norm else [m for m in model.modules() if isinstance(m, _BatchNorm)]
        in_norms = {p for layer in layers for p in layer.parameters(recurse=False)}
        plain = [p for p in model.parameters() if p not in in_norms]
        norms = [p for p in model.parameters() if p in in_norms]
        groups = [
            {"params": plain, "lr_mult": 1, "decay_mult": 1},
            {"params": norms, "lr_mult": 1, "decay_mult": 0},
        ]
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    return [group for group in groups if group["params"]]
