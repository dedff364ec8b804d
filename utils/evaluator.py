"""Views of videos -> what a network says of each video, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from utils import distributed
from utils.metrics import top_k
from utils.scores import Scores

T = TypeVar("T")


class ViewOutputs(NamedTuple):
    """A batch of videos, and what a network says of each of their views."""

    views: torch.Tensor  # uint8 (N, V, T, S, S, C)
    labels: torch.Tensor  # (N,)
    indices: torch.Tensor  # (N,), the places of the videos in their list
    outputs: torch.Tensor  # (N, V, dim), on the device


class ScoredBatch(NamedTuple):
    """A batch of videos, and what a classifier says of each of them."""

    views: torch.Tensor  # uint8 (N, V, T, S, S, C)
    labels: torch.Tensor  # (N,)
    indices: torch.Tensor  # (N,), the places of the videos in their list
    scores: torch.Tensor  # (N, classes), on the CPU: scores or logits, averaged over the views
    loss_sum: float  # cross-entropy, summed over the N * V views


def progress_bar(batches: Iterable[T], desc: str, total: int) -> Iterator[T]:
    """The batches; the main process shows how many of them are done."""
    quiet = not distributed.is_main()
    yield from tqdm(
        batches, desc, total, unit="batch", leave=False, dynamic_ncols=True, disable=quiet
    )


@torch.inference_mode()
def run_on_views(
    network: nn.Module,
    batches: Iterable[Sequence[torch.Tensor]],
    device: torch.device,
    view_batch: int | None = None,
) -> Iterator[ViewOutputs]:
    """What `network` says of the views of each batch; nothing of a batch without videos.

    Args:
        batches: views (N, V, T, S, S, C), labels and indices.
        view_batch: views on the device at once; None: all of a batch.
    """
    network.eval()
    for views, labels, indices, *_ in batches:
        n, v = views.shape[:2]
        if n:  # else all are in the share of another process, or bad
            outputs = run_in_chunks(network, views.flatten(0, 1), device, view_batch or n * v)
            yield ViewOutputs(views, labels, indices, outputs.unflatten(0, (n, v)))


def run_in_chunks(
    network: nn.Module, clips: torch.Tensor, device: torch.device, chunk_size: int
) -> torch.Tensor:
    """Outputs (N, dim) for `clips` (N, T, S, S, C), which cross to the device a chunk at a time."""
    chunks = clips.split(chunk_size)
    return torch.cat([network(chunk.to(device, non_blocking=True)) for chunk in chunks])


@torch.inference_mode()
def score_batches(
    classifier: nn.Module,
    batches: Iterable[Sequence[torch.Tensor]],
    device: torch.device,
    *,
    average: str = "scores",
    view_batch: int | None = None,
) -> Iterator[ScoredBatch]:
    """What `classifier` says of the videos of each batch, averaged over their views.

    Args:
        batches: views (N, V, T, S, S, C), labels and indices.
        average: "scores", after the softmax, or "logits", before it.
        view_batch: views on the device at once; None: all of a batch.
    """
    for views, labels, indices, logits in run_on_views(classifier, batches, device, view_batch):
        targets = labels.to(device).repeat_interleave(logits.shape[1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="sum")
        scores = average_views(logits, average).cpu()
        yield ScoredBatch(views, labels, indices, scores, loss.item())


def average_views(logits: torch.Tensor, average: str) -> torch.Tensor:
    """(N, V, classes) -> (N, classes): the mean "scores", after the softmax, or the "logits"."""
    return (logits if average == "logits" else logits.softmax(dim=-1)).mean(dim=1)


@torch.inference_mode()
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
    # something to concatenate where this process has had no video
    indices, scores, labels = (
        [torch.empty(0, dtype=kind)] for kind in (torch.long, torch.float, torch.long)
    )
    loss_sum, num_views = 0.0, 0
    for batch in batches:
        indices.append(batch.indices)
        scores.append(batch.scores)
        labels.append(batch.labels)
        loss_sum += batch.loss_sum
        num_views += batch.views.shape[:2].numel()
    share = *map(torch.cat, (indices, scores, labels)), loss_sum, num_views
    indices, scores, labels, loss_sums, counts = zip(*distributed.gather(share), strict=True)
    all_indices = torch.cat(indices)
    order = all_indices.argsort()
    return Scores(
        scores=torch.cat(scores)[order].numpy(),
        labels=torch.cat(labels)[order].numpy(),
        names=[names[i] for i in all_indices[order].tolist()],
        class_names=class_names,
        average=average,
        protocol=protocol,
        num_skipped=len(names) - len(order),
        loss=sum(loss_sums) / sum(counts),
    )


def validation_metrics(scores: Scores) -> dict[str, float]:
    """What the curves show of a validation; top-5 only where there are more than five classes."""
    metrics = {
        "val/loss": scores.loss,
        "val/top1": top_k(scores.scores, scores.labels, 1),
        "val/top5": top_k(scores.scores, scores.labels, 5),
    }
    return {name: value for name, value in metrics.items() if value is not None}
