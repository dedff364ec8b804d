"""Fitting a batch into the memory of a GPU: the size of micro-batches, found by trying."""

from collections.abc import Iterator

import torch
from torch import nn

from config import UserError
from utils import distributed


def largest_micro_batch(
    classifier: nn.Module,
    clip_shape: tuple[int, ...],
    share: int,
    device: torch.device,
    *,
    batch_size: int,
    mixup: bool,
    num_copies: int,
) -> int:
    """The fewest equal parts of a process's `share` of a batch that fit; their size.

    Args:
        clip_shape: of a clip, uint8 (T, H, W, C).
        batch_size: clips that are on the device, a micro-batch at a time in the network.
        mixup: are they blended, in floats, on their way into it?
        num_copies: tensors as large as each weight that a run keeps for it, such as its momentum.

    Raises:
        UserError: a single clip does not fit.
    """
    batch_shape = (batch_size, *clip_shape)
    for size in sizes_to_try(share):
        if fits_on_gpu(classifier, batch_shape, size, device, mixup, num_copies):
            return size
    raise UserError(
        "out of memory with a single clip; try --checkpoint-activations, a smaller --crop-size or "
        "a smaller --clip-len"
    )


def sizes_to_try(share: int) -> Iterator[int]:
    """Those of one part, two, four and so on, down to one clip."""
    parts = 1
    while parts < 2 * share:
        yield -(-share // min(parts, share))
        parts *= 2


def fits_on_gpu(
    classifier: nn.Module,
    batch_shape: tuple[int, ...],
    size: int,
    device: torch.device,
    mixup: bool,
    num_copies: int,
) -> bool:
    """Can the gradient of `size` clips of a batch be computed beside all else?

    Leaves weights, batch norm and random numbers as they were.
    """
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    buffers = [(buffer, buffer.clone()) for buffer in classifier.buffers()]
    classifier.train()
    # a process of several leaves the GPUs of the others alone
    gpus = [device] if distributed.launched() else range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices=gpus):
            copies = [torch.empty_like(p) for p in parameters for _ in range(num_copies)]
            batch = torch.zeros(batch_shape, dtype=torch.uint8, device=device)
            clips = batch[:size]
            if mixup:  # as the trainer blends
                clips = torch.lerp(clips.float(), clips.float(), 0.5)
            classifier(clips).sum().backward()
            del copies
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
