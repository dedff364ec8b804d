"""Whose the weights are that do not fit the network which is asked for, and what to type."""

import torch
from torch import nn

from config import ARCHS, UserError, flag, refuse
from models import build_model
from models.weights import State, Weights, load_exactly, public_weights


def check_variant(entry: Weights, model: nn.Module) -> None:
    """Raises UserError if the network is another variant, which tensors alone may not tell."""
    ours = getattr(model, "variant", None)
    theirs = entry.arch_args.get("variant", ours)
    refuse(theirs != ours, f"these weights are of {theirs}, and --variant is {ours}: choose one")


def right_options(state: State, entry: Weights, model: nn.Module) -> str:
    """What to type for the network that the tensors are of; "" where none is known.

    Args:
        state: as the file has it.
        entry: what it was taken for.
        model: that it does not fit.
    """
    own = [arch for arch in ARCHS if ARCHS[arch].network == type(model).__name__]
    for arch in own:
        options = ", ".join(map(flag, ARCHS[arch].options))
        if fits(state, entry, arch):
            return f"leave {options} to the weights"
    own_files = {one.url for arch in own for one in public_weights(arch).values()}
    for arch in own + [arch for arch in ARCHS if arch not in own]:
        named = [
            in_options(arch, name, one)
            for name, one in public_weights(arch).items()
            # some networks start from parts of another's file
            if (arch in own or one.url not in own_files) and fits(state, one, arch)
        ]
        if named:
            return f"it fits {' or '.join(named)}"
    return ""


def fits(state: State, entry: Weights, arch: str) -> bool:
    """Could the tensors be those of the entry, which is of `arch`?"""
    try:
        state = entry.convert(state)
        with torch.device("meta"):
            model = build_model(arch, state["head.weight"].shape[0], **entry.arch_args)
        state = entry.adapt(state, model) if entry.adapt else state
        load_exactly(model, {key: value.to("meta") for key, value in state.items()})
    except (UserError, KeyError, IndexError):  # a conversion may miss a tensor or a dimension
        return False
    return True


def in_options(arch: str, name: str, entry: Weights) -> str:
    variant = entry.arch_args.get("variant")
    return f"--arch {arch} {f'--variant {variant} ' if variant else ''}--pretrained {name}"
