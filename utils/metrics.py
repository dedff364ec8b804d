"""Accuracies in percent."""

import math

import torch


def num_correct(scores: torch.Tensor, labels: torch.Tensor, k: int) -> int:
    """How many rows of `scores` (N, classes) have their label among the k highest."""
    if scores.shape[1] < k:
        return 0
    return (scores.topk(k, dim=1).indices == labels[:, None]).any(dim=1).sum().item()


def top_k(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float | None:
    """The same in percent; None where k > 1 covers all classes, which says nothing."""
    if 1 < k >= scores.shape[1]:
        return None
    return 100 * num_correct(scores, labels, k) / len(labels)


def mean_class_accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1 in percent of each class that occurs in `labels`, averaged over those classes."""
    hits = (scores.argmax(dim=1) == labels).double()
    return (
        100 * torch.stack([hits[labels == label].mean() for label in labels.unique()]).mean().item()
    )


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval, in percent, of a share that was seen as `correct` of `total`.

    It takes the videos for independent ones. Source: Wilson, 1927; it holds for few videos and
    for shares near 0 and 1, too.
    """
    z = 1.959964  # of the normal distribution, for 95 %
    middle = (correct + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * math.sqrt(correct * (total - correct) / total + z**2 / 4)
    return 100 * max(middle - half, 0), 100 * min(middle + half, 1)
