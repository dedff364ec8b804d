"""How many clips fit on a GPU, found by trying."""

from collections.abc import Iterator

import torch
from torch import nn

from utils.memory.trial import is_out_of_memory, step, without_trace


def largest_that_fits(
    classifier: nn.Module,
    clip_shape: tuple[int, ...],
    most: int,
    device: torch.device,
    *,
    batch_size: int,
    mixup: bool,
    num_copies: int,
) -> int:
    """The size of the fewest equal parts of `most` clips that fit; 0: not even one does.

    Args:
        clip_shape: of a clip, uint8 (T, H, W, C).
        batch_size: clips that are on the device, a part at a time in the network.
        mixup: are they blended, in floats, on their way into it?
        num_copies: tensors as large as each weight that a run keeps for it, such as its momentum.
    """
    batch_shape = (batch_size, *clip_shape)
    for size in sizes_to_try(most):
        if fits(classifier, batch_shape, size, device, mixup, num_copies):
            return size
    return 0


def sizes_to_try(most: int) -> Iterator[int]:
    """Those of one part, two, three and so on, down to one clip."""
    yield from dict.fromkeys(-(-most // parts) for parts in range(1, most + 1))


def fits(
    classifier: nn.Module,
    batch_shape: tuple[int, ...],
    size: int,
    device: torch.device,
    mixup: bool,
    num_copies: int,
) -> bool:
    """Can the gradient of `size` clips of a batch be computed beside all else?

    The next batch is on its way while one is computed: two of them are on the device.
    """
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    with without_trace(classifier, device) as plain:
        try:
            copies = [torch.empty_like(p) for p in parameters for _ in range(num_copies)]
            batches = [torch.zeros(batch_shape, dtype=torch.uint8, device=device) for _ in "12"]
            step(plain, batches[0][:size], mixup)
            del copies
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
    return True
