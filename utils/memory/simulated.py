"""What a pass through a network holds in memory, counted without computing anything.

Tensors without values are made and dropped as the pass makes and drops them. It takes seconds, and
no memory; what it cannot see are the workspaces of kernels, and what an allocator keeps.
"""

import copy
import weakref
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class Cost(NamedTuple):
    """Bytes that a pass takes beside the weights: for itself, and for each clip."""

    fixed: float
    clip: float

    def of(self, clips: int) -> float:
        return self.fixed + clips * self.clip


class Living(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside, and notes the most that lived at once."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakSet = weakref.WeakSet()  # parts of a tensor share its memory

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.seen:
                memory = tensor.untyped_storage()
                self.seen.add(memory)
                weakref.finalize(memory, self.count, -memory.nbytes())
                self.count(memory.nbytes())
        return made

    def count(self, num_bytes: int) -> None:
        self.now += num_bytes
        self.most = max(self.most, self.now)


def simulated(model: nn.Module, clip_shape: tuple[int, ...], *, training: bool) -> Cost:
    """The cost of forward and backward, or of an evaluation, in float32.

    Args:
        model: from normalized clips.
        clip_shape: (C, T, H, W).
    """
    model = without_values(model).train(training)
    most = []
    for clips in (2, 3):  # batch norm may not train on one
        with torch.set_grad_enabled(training), Living() as living:
            output = model(torch.empty((clips, *clip_shape), device="meta"))
            if training:
                output.sum().backward()
        model.zero_grad()
        del output
        most.append(living.most)
    clip = most[1] - most[0]
    return Cost(max(most[0] - 2 * clip, 0), clip)


def without_values(model: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes alone."""
    copies: dict[int, torch.Tensor] = {}
    for parameter in model.parameters():
        empty = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        copies[id(parameter)] = empty
    copies |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    return copy.deepcopy(model, copies)
