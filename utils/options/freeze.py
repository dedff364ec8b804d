"""Parts of a network that stay as they are."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from config import UserError


def stages(model: nn.Module) -> dict[str, nn.Module]:
    """The named children of `features`, or of `backbone`, in their order."""
    return dict(getattr(model, "features", getattr(model, "backbone", model)).named_children())


def freeze_until(model: nn.Module, stage: str) -> list[nn.Module]:
    """Fixes the weights of all stages up to and including `stage`; returns those stages.

    Their batch norm must stay in evaluation, too, after each call of `train()`.
    """
    known = stages(model)
    if stage not in known:
        raise UserError(f"--freeze {stage}: the network's stages are {', '.join(known)}")
    frozen = list(known.values())[: list(known).index(stage) + 1]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def freeze_norms(model: nn.Module) -> list[nn.Module]:
    """Fixes scale and shift of batch norm everywhere; returns its modules, as freeze_until does."""
    norms: list[nn.Module] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for module in norms:
        module.requires_grad_(False)
    return norms
