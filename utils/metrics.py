"""Accuracies in percent."""

import math

import numpy as np
import torch


def num_correct(scores: np.ndarray, labels: np.ndarray, k: int) -> int:
    """How many rows of `scores` (N, classes) have their label among the k highest."""
    if scores.shape[1] < k:
        return 0
    best = torch.from_numpy(scores).topk(k, dim=1).indices
    return int((best == torch.from_numpy(labels)[:, None]).any(dim=1).sum())


def top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> float | None:
    """`num_correct` in percent; None where k > 1 covers all classes, which says nothing."""
    if 1 < k >= scores.shape[1]:
        return None
    return 100 * num_correct(scores, labels, k) / len(labels)


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 in percent of each class that occurs in `labels`, averaged over those classes."""
    true = torch.from_numpy(labels)
    hits = (torch.from_numpy(scores).argmax(dim=1) == true).double()
    return 100 * torch.stack([hits[true == label].mean() for label in true.unique()]).mean().item()


def uneven(labels: np.ndarray) -> bool:
    """Has one class more than three times as many videos as another one?"""
    counts = np.bincount(labels)
    return bool(counts.max() > 3 * counts[counts > 0].min())


def majority(labels: np.ndarray) -> float:
    """Top-1 in percent of always answering the class that is most frequent among `labels`."""
    return 100 * np.bincount(labels).max().item() / len(labels)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval, in percent, of a share that was seen as `correct` of `total`.

    Assumes that the videos are independent. Source: Wilson, 1927; it holds for few videos and for
    shares near 0 and 1, too.
    """
    z = 1.959964  # of the normal distribution, for 95 %
    middle = (correct + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * math.sqrt(correct * (total - correct) / total + z**2 / 4)
    return 100 * max(middle - half, 0), 100 * min(middle + half, 1)
