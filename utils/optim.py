"""Optimizers, and which parameters they treat otherwise than the rest."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def build_optimizer(
    model: nn.Module,
    kind: str,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    decay_norm: bool,
) -> torch.optim.Optimizer:
    """SGD or AdamW over what is to be trained, fused into few kernels on a GPU.

    Args:
        kind: "sgd" or "adamw".
        decay_norm: weight decay on batch norm as on the rest, unless the network knows better.
    """
    groups = parameter_groups(model, decay_norm)
    for group in groups:
        set_rates(group, lr, weight_decay)
    fused = next(model.parameters()).is_cuda
    if kind == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=fused)


def set_rates(group: dict, lr: float, weight_decay: float) -> None:
    """The settings of a run, times the multipliers of a group of parameters."""
    group["lr"] = group["initial_lr"] = lr * group["lr_mult"]
    group["weight_decay"] = weight_decay * group["decay_mult"]


def parameter_groups(model: nn.Module, decay_norm: bool) -> list[dict]:
    """The trained parameters with their `lr_mult` and `decay_mult`.

    A network's own `parameter_groups` come first, as its paper has them, those with a plain
    learning rate before the others; else batch norm is a group of its own if it does not decay.
    """
    if hasattr(model, "parameter_groups"):
        groups = sorted(model.parameter_groups(), key=lambda group: group["lr_mult"] != 1)
        kept = [group | {"params": trained(group["params"])} for group in groups]
    else:
        of_norms = {
            parameter
            for module in model.modules()
            if isinstance(module, _BatchNorm)
            for parameter in module.parameters(recurse=False)
        }
        plain = [p for p in model.parameters() if decay_norm or p not in of_norms]
        norms = [p for p in model.parameters() if not decay_norm and p in of_norms]
        kept = [
            {"params": trained(plain), "lr_mult": 1, "decay_mult": 1},
            {"params": trained(norms), "lr_mult": 1, "decay_mult": 0},
        ]
    return [group for group in kept if group["params"]]


def trained(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
