"""Parts of a network that stay as they are."""

from collections.abc import Iterator, Mapping

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
    whole = stages(model)
    known = dict(with_members(whole))
    if stage not in known:
        members = [f"; {name} is the first of a row" for name in known if name not in whole][:1]
        raise UserError(
            f"--freeze {stage}: the network's stages are {', '.join(whole)}{''.join(members)}"
        )
    names = list(known)[: list(known).index(stage) + 1]
    frozen = [known[name] for name in names if not stage.startswith(f"{name}.")]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def with_members(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Parts by name; behind what is a row come its members, such as "layer2.0".

    Transformers have nearly all of their weights in one row.
    """
    for name, part in parts.items():
        yield name, part
        if type(part) in (nn.Sequential, nn.ModuleList):
            yield from with_members({f"{name}.{i}": one for i, one in part.named_children()})


def freeze_norms(model: nn.Module) -> list[nn.Module]:
    """Fixes scale and shift of batch norm everywhere; returns its modules, as freeze_until does."""
    norms: list[nn.Module] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for module in norms:
        module.requires_grad_(False)
    return norms
