"""Training nothing but the head: the features below it are computed once and kept."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import Optimization, UserError
from utils import checkpoint, distributed
from utils.schedule import Schedule

EPOCHS = 100  # of a few milliseconds each
BATCH_SIZE = 256
WEIGHT_DECAY = 0.01
# float (videos, views, dim), labels (videos,), and which videos of the list these are
Features = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@torch.inference_mode()
def compute_features(
    extractor: nn.Module,
    loader: DataLoader,
    device: torch.device,
    desc: str,
    check: Callable[[], None],
) -> Features:
    """Features of all views of the videos, on the CPU; `check` is called between batches."""
    extractor.eval()
    features, labels, indices = [], [], []
    batches = distributed.sharing_faults(loader.epoch(), loader.new_faults())
    how = {"unit": "batch", "leave": False, "dynamic_ncols": True}
    for views, label, index, *_ in tqdm(batches, desc, len(loader), **how):
        n = len(views)
        if n:  # else all are bad
            found = extractor(views.flatten(0, 1).to(device, non_blocking=True))
            features.append(found.unflatten(0, (n, -1)).cpu())
            labels.append(label)
            indices.append(index)
        check()
    return torch.cat(features), torch.cat(labels), torch.cat(indices)


def cached(path: Path, compute: Callable[[], Features]) -> tuple[Features, bool]:
    """What is kept at `path`, or else computed and kept; and whether it was there.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    if path.exists():
        try:
            return tuple(torch.load(path, weights_only=True)["features"]), True
        except Exception as error:  # torch.load has no common error for damaged files
            raise UserError(f"{path} is damaged ({type(error).__name__}); delete it") from None
    features = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made ({error.strerror})") from None
    checkpoint.save({"features": features}, path)
    return features, False


def cache_key(**parts) -> str:
    """A short name for all that features depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def train_head(
    features_at: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    num_views: int,
    head: nn.Linear,
    *,
    dropout: float,
    lr: float,
    seed: int,
    epochs: int = EPOCHS,
) -> nn.Linear:
    """A new head like `head`, trained with AdamW and a cosine on one random view a video an epoch.

    Args:
        features_at: videos (N,) and views (N,) -> features (N, dim).
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
        cosine = Optimization(epochs=epochs, batch_size=BATCH_SIZE, lr=lr, schedule="cosine")
        schedule = Schedule(optimizer, steps, cosine)
        for epoch in range(epochs):
            order = torch.randperm(len(labels), generator=generator)
            views = torch.randint(num_views, (len(labels),), generator=generator)
            for step, videos in enumerate(order.split(BATCH_SIZE)):
                schedule.set_lr(epoch * steps + step)
                features = nn.functional.dropout(features_at(videos, views[videos]), dropout)
                loss = cross_entropy(head(features), labels[videos])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return head


@torch.inference_mode()
def scores_of(head: nn.Linear, features: torch.Tensor, average: str) -> torch.Tensor:
    """(videos, classes): the "scores" of the views after the softmax averaged, or the "logits"."""
    logits = head(features)
    return logits.mean(dim=1) if average == "logits" else logits.softmax(dim=-1).mean(dim=1)


def table(accuracies: dict[float, float]) -> str:
    """A line for each learning rate: validation accuracy in percent."""
    best = max(accuracies, key=accuracies.get)
    return "\n".join(
        f"  lr {lr:<8g} validation top-1 {top1:5.1f} %" + ("  <- the best" if lr == best else "")
        for lr, top1 in accuracies.items()
    )
