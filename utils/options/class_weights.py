"""--class-weights: how many times a clip of each class counts in the loss."""

from collections.abc import Sequence

import torch

from utils import distributed
from utils.options.mixup import Mixup


def balanced_weights(
    labels: torch.Tensor,
    num_classes: int,
    flipped_labels: Sequence[int] | None = None,
    flip_prob: float = 0,
) -> torch.Tensor:
    """(classes,), in inverse proportion to the clips of each class; 1 on average over all clips.

    Args:
        labels: of the training videos.
        flipped_labels: what a mirrored video shows, by its label, see VideoLists; None: none is.
        flip_prob: share of the videos that are mirrored.
    """
    counts = labels.bincount(minlength=num_classes).double()
    if flipped_labels is not None:
        mirrored = counts.new_zeros(num_classes)
        mirrored.index_add_(0, torch.tensor(flipped_labels), counts)
        counts = torch.lerp(counts, mirrored, flip_prob)
    weights = counts.sum() / ((counts > 0).sum() * counts)
    return weights.where(counts > 0, 0.0).float()  # of a class without videos there is no clip


def total_weight(
    class_weights: torch.Tensor, labels: torch.Tensor, mixup: Mixup | None
) -> torch.Tensor:
    """How many times the clips of the whole batch count together; does not wait for a GPU."""
    total = class_weights[labels].sum()
    if mixup:
        others = mixup.labels[mixup.partners]
        total = mixup.share * total + (1 - mixup.share) * class_weights[others].sum()
    return distributed.all_reduce_sum(total)
