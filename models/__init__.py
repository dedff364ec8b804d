"""build_model: the one way to make a network."""

from importlib import import_module

from torch import nn

from config import ARCHS, UserError
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
    network = getattr(import_module(f"models.{arch}"), ARCHS[arch].network)
    model = network(num_classes=num_classes, **arch_args)
    if entry:
        load(model, entry, weights_file)
    return model
