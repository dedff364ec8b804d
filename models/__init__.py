"""build_model: the one way to make a network."""

import inspect
from dataclasses import fields
from importlib import import_module
from typing import Any

from torch import nn

from config import ARCHS, Network, UserError, first_misfit
from models.weights import find, load


def build_model(
    arch: str,
    num_classes: int = 400,
    weights: str | None = None,
    weights_file: str | None = None,
    **arch_args,
) -> nn.Module:
    """A network: clips (N, C, T, H, W), normalized -> logits (N, num_classes).

    Args:
        arch: a key of config.ARCHS.
        num_classes: outputs of the head; the head of `weights` is replaced, which is logged, where
            it has others.
        weights: a name of models.weights.public_weights(arch), or None to start from scratch.
        weights_file: where the file of `weights` is, instead of pretrained/.
        arch_args: arguments of the network's constructor; `weights` may bring some of its own.
    """
    if arch not in ARCHS:
        raise UserError(f"unknown architecture '{arch}'; there are {', '.join(ARCHS)}")
    entry = find(weights, arch, arch_args) if weights else None
    if entry:
        arch_args = entry.arch_args | arch_args
    model = network_class(arch)(num_classes=num_classes, **arch_args)
    if entry:
        load(model, entry, weights_file)
    return model


def network_class(arch: str) -> type[nn.Module]:
    entry = ARCHS[arch]
    return getattr(import_module(f"models.{entry.file or arch}"), entry.network)


def arguments_problem(arch: str, arch_args: dict[str, Any]) -> str:
    """Which of the arguments, read from a file, the class of the network does not take; or ""."""
    taken = dict(inspect.signature(network_class(arch)).parameters)
    del taken["num_classes"]  # the class names say how many
    limits = {f.name: f.metadata for f in fields(Network)}
    if unknown := arch_args.keys() - taken.keys():
        return f"it has no {min(unknown)}"
    return first_misfit(
        (name, value, taken[name].annotation, limits.get(name, {"low": 0}))
        for name, value in arch_args.items()
    )
