"""Accuracy over several clips a video, and the files that carry it together with its protocol."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from config import Views
from utils import confusion, distributed
from utils.checkpoint import write_whole
from utils.metrics import mean_class_accuracy, num_correct, top_k, wilson_interval
from utils.scores import Scores, save_scores


@torch.inference_mode()
def score_videos(
    model: nn.Module,
    batches: Iterable[Sequence],
    device: torch.device,
    desc: str = "evaluate",
    check: Callable[[], None] = lambda: None,
    average: str = "scores",
    view_batch: int | None = None,
    on_batch: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] = lambda *batch: None,
    total: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """What the network says of each video, averaged over its views.

    Args:
        batches: views, labels and indices; of a run of several processes those of its share.
        check: called between batches.
        average: "scores", after the softmax, or "logits", before it.
        view_batch: views on the device at once; None: all of a batch.
        on_batch: sees the views, uint8 (N, V, T, S, S, C), scores and labels of each batch.
        total: number of batches, where it is known.

    All processes get all scores.

    Returns:
        Scores or logits (videos, classes) and labels (videos,) on the CPU in list order, and the
        mean cross-entropy of the views.
    """
    model.eval()
    indices, scores, labels = (
        [torch.empty(0, dtype=kind)] for kind in (torch.long, torch.float, torch.long)
    )
    loss_sum, num_views, quiet = 0.0, 0, not distributed.is_main()
    bar = tqdm(batches, desc, total, unit="batch", leave=False, dynamic_ncols=True, disable=quiet)
    for views, label, index, *_ in bar:
        n, v = views.shape[:2]
        if n:  # else all are in the share of another process, or bad
            chunks = views.flatten(0, 1).split(view_batch or n * v)
            logits = torch.cat([model(chunk.to(device, non_blocking=True)) for chunk in chunks])
            targets = label.to(device).repeat_interleave(v)
            loss_sum += nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            num_views += n * v
            of_views = logits if average == "logits" else logits.softmax(dim=1)  # (N * V, classes)
            indices.append(index)
            scores.append(of_views.unflatten(0, (n, v)).mean(dim=1).cpu())
            labels.append(label)
            on_batch(views, scores[-1], label)
        check()
    own = *map(torch.cat, (indices, scores, labels)), loss_sum, num_views
    indices, scores, labels, loss_sums, counts = zip(*distributed.gather(own), strict=True)
    order = torch.cat(indices).argsort()
    mean_loss = sum(loss_sums) / sum(counts)
    return torch.cat(scores)[order], torch.cat(labels)[order], mean_loss


def validation_metrics(scores: torch.Tensor, labels: torch.Tensor, loss: float) -> dict[str, float]:
    """What the curves show of a validation; top-5 only where there are more than five classes."""
    metrics = {
        "val/loss": loss,
        "val/top1": top_k(scores, labels, 1),
        "val/top5": top_k(scores, labels, 5),
    }
    return {name: value for name, value in metrics.items() if value is not None}


def result_of(
    scores: torch.Tensor,
    labels: torch.Tensor,
    protocol: str,
    average: str = "scores",
    num_skipped: int = 0,
) -> dict:
    """The content of result.json: accuracies in percent and how they were measured."""
    return {
        "top1": top_k(scores, labels, 1),
        "top1_interval": wilson_interval(num_correct(scores, labels, 1), len(labels)),
        "top5": top_k(scores, labels, 5),
        "mean_class_accuracy": mean_class_accuracy(scores, labels),
        "num_videos": len(labels),
        "num_skipped": num_skipped,
        "average": average,
        "protocol": protocol,
    }


def protocol_in_words(
    views: Views, preprocessing: dict, average: str = "scores", full_crop: bool = False
) -> str:
    """What was averaged over what."""
    averaged = "logits" if average == "logits" else "softmax"
    crops = {1: "1 center crop", 10: "10 crops (5 of them mirrored)"}
    crops = crops.get(views.crops, f"{views.crops} crops")
    unit = "field of flow" if preprocessing["modality"] == "flow" else "frame"
    side = "both sides" if preprocessing["resize"] == "square" else "short side"
    crop_size = preprocessing["short_side" if full_crop else "crop_size"]
    pixels = f"{crop_size} px out of {side} {preprocessing['short_side']}"
    if snippet_len := preprocessing["snippet_len"]:
        segments = views.clips if views.clips != 1 else preprocessing["clip_len"] // snippet_len
        return (
            f"video accuracy, {segments} segments of {plural(snippet_len, unit)} as one input, "
            f"{averaged} averaged over {crops}, {pixels}"
        )
    clips = {1: "1 center clip", None: "the whole video as 1 clip"}
    clips = clips.get(views.clips, f"{views.clips} evenly spaced clips")
    frames = "" if views.clips is None else f" of {plural(preprocessing['clip_len'], unit)}"
    rate = preprocessing["target_fps"]
    stride = f"stride {preprocessing['stride']}" + (f" at {rate:g} frames/s" if rate else "")
    return (
        f"video accuracy, {averaged} averaged over {clips} x {crops}{frames} ({stride}), {pixels}"
    )


def plural(count: int, unit: str) -> str:
    """`3 frames`, or of `field of flow`, `3 fields of flow`."""
    noun, *rest = unit.split(" ", 1)
    return " ".join([str(count), noun if count == 1 else noun + "s", *rest])


def describe(result: dict) -> str:
    """One line for people: no number without its protocol."""
    top5 = "" if result["top5"] is None else f", top-5 {result['top5']:.1f} %"
    low, high = result["top1_interval"]
    skipped = f" ({result['num_skipped']} skipped)" if result["num_skipped"] else ""
    return (
        f"top-1 {result['top1']:.1f} % (95 %: {low:.1f} to {high:.1f}){top5}, mean class accuracy "
        f"{result['mean_class_accuracy']:.1f} % "
        f"on {result['num_videos']} videos{skipped}; {result['protocol']}"
    )


def write_results(
    folder: Path,
    result: dict,
    scores: torch.Tensor,
    labels: torch.Tensor,
    names: list[str],
    class_names: list[str],
) -> None:
    """Writes all of an evaluation into `folder`; `scores` is what `result["average"]` says.

    predictions.json has the five best classes of each video with their scores, scores.npz the
    scores or logits of all; per_class.csv, confusion.csv and confusion.png say what is taken for
    what; result.json comes last, and an old one goes first: it never stands beside other scores.
    """
    (folder / "result.json").unlink(missing_ok=True)
    shown = scores.softmax(dim=1) if result["average"] == "logits" else scores
    best = shown.topk(min(5, scores.shape[1]), dim=1)
    predictions = [
        {
            "path": name,
            "class_name": class_names[label],
            "predictions": [
                {"class_name": class_names[i], "score": round(score, 5)}
                for score, i in zip(values, indices, strict=True)
            ],
        }
        for name, label, values, indices in zip(
            names, labels.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
        )
    ]
    text = json.dumps(predictions, indent=1, ensure_ascii=False)
    (folder / "predictions.json").write_text(text + "\n", encoding="utf-8")
    how = result["average"], result["protocol"], result["num_skipped"]
    save_scores(
        folder / "scores.npz", Scores(scores.numpy(), labels.numpy(), names, class_names, *how)
    )
    predicted = scores.argmax(dim=1).numpy()
    matrix = confusion.confusion_matrix(labels.numpy(), predicted, len(class_names))
    confusion.write_per_class(folder / "per_class.csv", matrix, class_names)
    confusion.write_confusion(folder / "confusion.csv", matrix, class_names)
    confusion.draw_confusion(folder / "confusion.png", matrix, class_names, describe(result))
    write_whole(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())
