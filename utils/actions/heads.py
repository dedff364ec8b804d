"""Training nothing but the head: the features below it are computed once and kept."""

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from config import UserError
from utils import checkpoint
from utils.evaluator import average_views, run_on_views
from utils.schedule import Schedule
from utils.scores import Scores

EPOCHS = 100  # of a few milliseconds each
BATCH_SIZE = 256
WEIGHT_DECAY = 0.01


class Features(NamedTuple):
    """What a network without its head says of the views of videos, on the CPU."""

    values: torch.Tensor  # float (videos, views, dim)
    labels: torch.Tensor  # (videos,)
    indices: torch.Tensor  # (videos,), their places in the list


def compute_features(
    extractor: nn.Module,
    batches: Iterable[Sequence[torch.Tensor]],
    device: torch.device,
    view_batch: int,
) -> Features:
    """Features of all views of the videos; `view_batch` views are on the device at once."""
    found = [
        Features(batch.outputs.cpu(), batch.labels, batch.indices)
        for batch in run_on_views(extractor, batches, device, view_batch)
    ]
    return Features(*map(torch.cat, zip(*found, strict=True)))


def load_features(path: Path) -> Features | None:
    """What `save_features` has kept at `path`, if there is something.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return Features(*torch.load(path, weights_only=True)["features"])
    except Exception as error:  # torch.load has no common error for damaged files
        raise UserError(f"{path} is damaged ({type(error).__name__}); delete it") from None


def save_features(path: Path, features: Features) -> None:
    """Raises UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made ({error.strerror})") from None
    checkpoint.save({"features": tuple(features)}, path)


def cache_key(**parts) -> str:
    """A short name for all that features depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def train_head(
    features: torch.Tensor,
    labels: torch.Tensor,
    head: nn.Linear,
    *,
    dropout: float,
    lr: float,
    seed: int,
    epochs: int = EPOCHS,
) -> nn.Linear:
    """A new head like `head`, trained with AdamW and a cosine on one random view a video an epoch.

    Args:
        features: (videos, views, dim)
        labels: (videos,)
        dropout: on the features.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = copy.deepcopy(head).cpu().float()
        head.reset_parameters()
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
        for group in optimizer.param_groups:
            group["initial_lr"] = lr
        steps = -(-len(labels) // BATCH_SIZE)
        schedule = Schedule(optimizer, steps_per_epoch=steps, epochs=epochs, schedule="cosine")
        for epoch in range(epochs):
            order = torch.randperm(len(labels), generator=generator)
            views = torch.randint(features.shape[1], (len(labels),), generator=generator)
            for step, videos in enumerate(order.split(BATCH_SIZE)):
                schedule.set_lr(epoch * steps + step)
                seen = nn.functional.dropout(features[videos, views[videos]], dropout)
                loss = cross_entropy(head(seen), labels[videos])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return head


@torch.inference_mode()
def score_features(
    head: nn.Linear,
    features: Features,
    *,
    names: Sequence[str],
    class_names: list[str],
    average: str,
    protocol: str = "",
) -> Scores:
    """The evaluation of the videos by `head`; arguments as evaluator.score_videos has them."""
    return Scores(
        scores=average_views(head(features.values), average).numpy(),
        labels=features.labels.numpy(),
        names=[names[i] for i in features.indices.tolist()],
        class_names=class_names,
        average=average,
        protocol=protocol,
        num_skipped=len(names) - len(features.indices),
    )


def accuracies_in_words(accuracies: dict[float, float]) -> str:
    """A line for each learning rate: validation accuracy in percent."""
    best = max(accuracies, key=lambda lr: accuracies[lr])
    return "\n".join(
        f"  lr {lr:<8g} validation top-1 {top1:5.1f} %" + ("  <- the best" if lr == best else "")
        for lr, top1 in accuracies.items()
    )
