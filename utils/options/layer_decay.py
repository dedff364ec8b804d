"""--layer-decay: lower learning rates for the layers that are further from the head."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from utils.options.freeze import stages


def by_layer(groups: list[dict[str, Any]], model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """The groups of parameter_groups, split by layers: `lr_mult` times `decay` for each below.

    The head has its rate, the last layer `decay` times as much, the one before it `decay`
    squared. Groups with a plain rate stay the first ones.

    Source: arXiv:2106.08254, whose layers are the blocks of a transformer, and the patches.
    """
    found = layers(model)
    factors = {p: decay ** (len(found) - i) for i, layer in enumerate(found) for p in layer}
    split = []
    for group in groups:
        parts: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(factors.get(parameter, 1.0), []).append(parameter)
        split += [
            group | {"params": parameters, "lr_mult": group["lr_mult"] * factor}
            for factor, parameters in parts.items()
        ]
    return sorted(split, key=lambda group: group["lr_mult"] != 1)


def layers(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each layer, the first one first; those of the head are in none.

    A layer is a stage, as --freeze knows them, or where that is a plain row of blocks, each block.
    What has vectors alone, such as a norm, belongs to the layer that it follows.
    """
    found: list[list[nn.Parameter]] = []
    for stage in stages(model).values():
        for block in blocks(stage):
            parameters = list(block.parameters())
            if found and all(p.dim() == 1 for p in parameters):
                found[-1] += parameters
            elif parameters:
                found.append(parameters)
    return found


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) in (nn.Sequential, nn.ModuleList):
        for child in module.children():
            yield from blocks(child)
    else:
        yield module
