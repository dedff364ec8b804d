"""Parts of a network that stay as they are."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from config import UserError


def freeze_until(model: nn.Module, stage: str) -> list[nn.Module]:
    """Fixes the weights of all stages up to and including `stage`; returns those stages.

    Stages are the named children of `features`, or of the 2-D `backbone`. Their batch norm must
    stay in evaluation, too, after each call of `train()`.
    """
    stages = dict(getattr(model, "features", getattr(model, "backbone", model)).named_children())
    if stage not in stages:
        raise UserError(f"--freeze {stage}: the network's stages are {', '.join(stages)}")
    frozen = list(stages.values())[: list(stages).index(stage) + 1]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def freeze_norms(model: nn.Module) -> list[nn.Module]:
    """Fixes scale and shift of batch norm everywhere; returns its modules, as freeze_until does."""
    norms: list[nn.Module] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for module in norms:
        module.requires_grad_(False)
    return norms
