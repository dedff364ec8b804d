"""Views of videos -> what a classifier says of each video."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from utils import distributed
from utils.metrics import mean_class_accuracy, top_k, uneven
from utils.scores import Scores


class ScoredBatch(NamedTuple):
    """A batch of videos, and what a classifier says of each of them."""

    views: torch.Tensor  # uint8 (N, V, T, S, S, C)
    labels: torch.Tensor  # (N,)
    indices: torch.Tensor  # (N,), the places of the videos in their list
    scores: torch.Tensor  # (N, classes), on the CPU: scores or logits, averaged over the views
    loss_sum: float  # cross-entropy, summed over the N * V views


@torch.inference_mode()
def run_in_chunks(
    network: nn.Module, clips: torch.Tensor, device: torch.device, chunk_size: int
) -> torch.Tensor:
    """Outputs (N, dim) for `clips` (N, T, S, S, C), which cross to the device a chunk at a time."""
    chunks = clips.split(chunk_size)
    return torch.cat([network(chunk.to(device, non_blocking=True)) for chunk in chunks])


def score_batches(
    classifier: nn.Module,
    batches: Iterable[Sequence[Any]],
    device: torch.device,
    *,
    view_batch: int,
    average: str = "scores",
) -> Iterator[ScoredBatch]:
    """What `classifier` says of the videos of each batch, averaged over their views.

    Args:
        batches: views (N, V, T, S, S, C), labels and indices.
        view_batch: views on the device at once.
        average: "scores", after the softmax, or "logits", before it.
    """
    classifier.eval()
    for views, labels, indices, *_ in batches:
        if len(labels) == 0:  # all are in the share of another process, or bad
            continue
        logits = run_in_chunks(classifier, views.flatten(0, 1), device, view_batch)
        targets = labels.to(device).repeat_interleave(views.shape[1])
        loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
        scores = average_views(logits.unflatten(0, views.shape[:2]), average).cpu()
        yield ScoredBatch(views, labels, indices, scores, loss.item())


def average_views(logits: torch.Tensor, average: str) -> torch.Tensor:
    """(N, V, classes) -> (N, classes): the mean "scores", after the softmax, or the "logits"."""
    return (logits if average == "logits" else logits.softmax(dim=-1)).mean(dim=1)


def score_videos(
    batches: Iterable[ScoredBatch],
    *,
    names: Sequence[str],
    class_names: list[str],
    average: str,
    protocol: str,
) -> Scores:
    """All of `batches` as one evaluation, in the order of the list.

    Of a run of several processes each has the batches of its share, and all get all scores.

    Args:
        names: of all videos of the list; those that are in no batch were skipped.
        average: what the scores of the batches are.
        protocol: how they were measured, in words.
    """
    none = torch.empty(0, dtype=torch.long)
    found = [(none, torch.empty(0), none)]  # something to concatenate where there is no video
    loss_sum, num_views = 0.0, 0
    for batch in batches:
        found.append((batch.indices, batch.scores, batch.labels))
        loss_sum += batch.loss_sum
        num_views += batch.views.shape[:2].numel()
    share = *map(torch.cat, zip(*found, strict=True)), loss_sum, num_views
    *columns, loss_sums, counts = zip(*distributed.gather(share), strict=True)
    indices, scores, labels = map(torch.cat, columns)
    order = indices.argsort()
    return Scores(
        scores=scores[order].numpy(),
        labels=labels[order].numpy(),
        names=[names[i] for i in indices[order].tolist()],
        class_names=class_names,
        average=average,
        protocol=protocol,
        num_skipped=len(names) - len(order),
        loss=sum(loss_sums) / sum(counts),
    )


def validation_metrics(scores: Scores) -> dict[str, float]:
    """What the curves show of a validation; top-5 only where there are more than five classes.

    The mean class accuracy only where the largest class would hide what becomes of the smallest.
    """
    metrics = {
        "val/loss": scores.loss,
        "val/top1": top_k(scores.scores, scores.labels, 1),
        "val/top5": top_k(scores.scores, scores.labels, 5),
    }
    if uneven(scores.labels):
        metrics["val/mean_class_accuracy"] = mean_class_accuracy(scores.scores, scores.labels)
    return {name: value for name, value in metrics.items() if value is not None}
