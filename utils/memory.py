"""Fitting a batch into memory: micro-batches, and activations that are computed twice."""

import contextlib
import resource
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from config import UserError
from utils import distributed


def largest_micro_batch(fits: Callable[[int], bool], batch_size: int) -> int:
    """The fewest equal parts of a batch that fit, tried from the whole batch down; their size.

    Raises:
        UserError: a single clip does not fit.
    """
    parts = 1
    while parts < 2 * batch_size:
        size = -(-batch_size // min(parts, batch_size))
        if fits(size):
            return size
        parts *= 2
    raise UserError(
        "out of memory with a single clip; try --checkpoint-activations, a smaller --crop-size or "
        "a smaller --clip-len"
    )


def fits_on_gpu(
    classifier: nn.Module,
    optimizer: torch.optim.Optimizer,
    clip_shape: tuple[int, ...],
    size: int,
    device: torch.device,
    *,
    batch_size: int,
    mixup: bool,
) -> bool:
    """Can the gradient of `size` uint8 clips of `clip_shape` be computed beside the optimizer?

    Leaves weights, batch norm and random numbers as they were.

    Args:
        batch_size: clips that are on the device, `size` at a time in the network.
        mixup: are they blended, in floats, on their way into it?
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    num_states = 2 if "betas" in optimizer.defaults else 1  # tensors that a step will keep of each
    buffers = [(buffer, buffer.clone()) for buffer in classifier.buffers()]
    classifier.train()
    # a process of several leaves the GPUs of the others alone
    gpus = [device] if distributed.launched() else range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices=gpus):
            states = [torch.empty_like(p) for p in parameters for _ in range(num_states)]
            batch = torch.zeros((batch_size, *clip_shape), dtype=torch.uint8, device=device)
            clips = batch[:size]
            if mixup:  # as the trainer blends
                clips = torch.lerp(clips.float(), clips.float(), 0.5)
            classifier(clips).sum().backward()
            del states
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def checkpoint_activations(model: nn.Module) -> None:
    """Lets each block of `model` forget its activations and compute them again in the backward.

    The class of a block changes, not its name: the keys of the weights stay, and so do the copies
    that DataParallel makes.
    """
    for block in blocks_of(model):
        block.__class__ = type(type(block).__name__, (_Checkpointed, type(block)), {})


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The children of `features` or `backbone`; of a plain row of them, its members."""
    children = getattr(model, "features", getattr(model, "backbone", model)).children()
    blocks = []
    for child in children:
        blocks += child.children() if type(child) is nn.Sequential else [child]
    return [block for block in blocks if any(True for _ in block.children())]


class _Checkpointed:
    """Before the class of a module in its method resolution order."""

    def forward(self, *inputs):
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*inputs)
        return checkpoint(
            super().forward,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), untracked(self)),
        )


@contextlib.contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Inside, batch norm that trains leaves its running statistics alone: they were updated."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    states = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, state in zip(norms, states, strict=True):
            norm.momentum, norm.num_batches_tracked = state


def peak_memory_gb(device: torch.device) -> float:
    """The most that was held at once since the start: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
