"""--head-only: training nothing but the head: the features below it are computed once and kept."""

import copy
import hashlib
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from config import (
    RUNS,
    Augmentation,
    Checkpoints,
    Evaluation,
    Optimization,
    Regularization,
    UserError,
    flag,
    owned,
    part,
    refuse,
)
from pt_dataset.listing.made_from import Note, Source, are_same, take_notes
from pt_dataset.loader import Batch
from pt_dataset.video_list import Video
from utils import build, checkpoint, words
from utils.actions.extract_features import digest_weights
from utils.actions.network import FeatureNetwork
from utils.classifier import ClipClassifier, Normalize
from utils.evaluator import average_views, run_in_chunks
from utils.interrupt import GracefulStop, Stop
from utils.metrics import top_k
from utils.options.class_weights import balanced_weights
from utils.results import report_results
from utils.resume.checkpoint_file import load_checked
from utils.run import Run, start_run_folder
from utils.schedule import Schedule
from utils.scores import Scores

EPOCHS = 100  # of a few milliseconds each
BATCH_SIZE = 256
WEIGHT_DECAY = 0.01
# what is for a training of the network, but for what a head and its evaluation read, too
OF_NETWORK = Augmentation, Optimization, Regularization, Checkpoints
IDLE = {f.name for group in OF_NETWORK for f in fields(group)} - {"batch_size", "class_weights"}
IDLE -= {"short_side"}
log = logging.getLogger("video")


class Features(NamedTuple):
    """What a network without its head says of the views of videos, on the CPU."""

    values: torch.Tensor  # float (videos, views, dim)
    labels: torch.Tensor  # (videos,)
    indices: torch.Tensor  # (videos,), their places in the list


def head_only(run: Run, stop: GracefulStop) -> int:
    """Heads with several learning rates on features that are computed once; saves the best."""
    opts, lists = run.opts, run.lists
    idle = ", ".join(flag(name) for name in sorted(filter(opts.typed, IDLE)))
    refuse(idle, f"to --head-only these mean nothing: {idle}")
    if getattr(run.model, "consensus", "avg") != "avg":
        raise UserError("--head-only needs a head that follows the features: --consensus avg")
    head, dropout = run.model.head, run.model.dropout
    assert isinstance(head, nn.Linear) and isinstance(dropout, nn.Dropout)  # as all networks have
    for line in words.preprocessing_in_words(run):
        log.info(line)
    loader = build.training_loader(run)  # what it refuses, before the work
    try:
        training = features_of_videos(run, lists.train, "training videos", stop)
        validation = features_of_videos(run, lists.validation, "validation videos", stop)
        test = features_of_videos(run, lists.test, "test videos", stop)
    except Stop as request:
        log.info(f"{request}; run the same command again; finished lists are kept")
        return request.status
    heads, top1, weights = {}, {}, None
    if opts.class_weights == "balanced":
        weights = balanced_weights(training.labels, len(lists.class_names))
    for lr in opts.head_lrs:
        how = {"dropout": dropout.p, "lr": lr, "seed": opts.seed}
        heads[lr] = train_head(training.values, training.labels, head, weights=weights, **how)
        scores = evaluate_head(run, heads[lr], validation, lists.validation, f"lr {lr}")
        top1[lr] = top_k(scores.scores, scores.labels, 1)
    start_run_folder(run)
    best = max(top1, key=lambda lr: top1[lr])
    lines = [f"heads after {EPOCHS} epochs:"]
    for lr, accuracy in top1.items():
        mark = "  <- the best" if lr == best else ""
        lines.append(f"  lr {lr:<8g} validation top-1 {accuracy:5.1f} %{mark}")
    log.info("\n".join(lines))
    head.load_state_dict(heads[best].state_dict())
    saver = build.build_saver(run, build.build_trainer(run, loader))
    chosen_on = lists.chosen_on if len(heads) > 1 else None
    saver.save("last.pth", chosen_on)
    source = words.source_in_words(run, saver.state(chosen_on))
    scores = evaluate_head(run, heads[best], test, lists.test, source)
    report_results(run.folder, scores, run.num_trained_on)
    last = run.folder / "last.pth"
    log.info(f"checkpoint: {last}; --pretrained {last} with another --name trains all of it")
    return 0


def features_of_videos(
    run: Run, videos: Sequence[Video], desc: str, stop: GracefulStop
) -> Features:
    """Features of the views of `videos`, from the file of those that are computed already.

    They are computed again where a video has changed since.

    Raises:
        UserError: it is damaged, or cannot be written.
    """
    opts = run.opts
    if opts.views.clips is None:
        raise UserError("--head-only needs --views with a number of clips, such as 5x1")
    depend_on = {
        "weights": digest_weights(run.model),
        "videos": [(*video[:2], *video[3:]) for video in videos],
        "preprocessing": run.preprocessing.in_files(),
        "views": [str(opts.views), opts.full_crop],
        "precision": run.precision,
        "on_bad_frame": opts.on_bad_frame,
    }
    key = hashlib.sha256(json.dumps(depend_on, sort_keys=True).encode()).hexdigest()[:16]
    path = RUNS / ".features" / f"{key}.pt"
    sources = [Source.of(video, run.preprocessing.modality) for video in videos]
    with owned(path, wait=math.inf):  # a run beside this one may need the same ones
        features, before = load_features(path, videos, sources), ", computed before"
        if features is None:
            notes = take_notes(sources)
            normalize, before = Normalize.matching(run.preprocessing, opts.channels_last), ""
            extractor = ClipClassifier(FeatureNetwork(run.model), normalize, run.precision)
            batches = build.view_batches(run, videos, part(Evaluation, opts), stop, desc=desc)
            size = build.view_batch(run)
            features = compute_features(extractor.to(run.device), batches, run.device, size)
            run.view_loaders.clear()  # each has processes, and is of no use any more
            check_finite(features, videos)
            save_features(path, features, notes)
    log.info(f"features of {len(videos)} {desc}: {path}{before}")
    return features


def compute_features(
    extractor: nn.Module, batches: Iterable[Batch], device: torch.device, view_batch: int
) -> Features:
    """Features of all views of the videos; `view_batch` views are on the device at once."""
    extractor.eval()
    found = []
    for views, labels, indices, *_ in batches:
        if len(labels):  # else all are bad
            values = run_in_chunks(extractor, views.flatten(0, 1), device, view_batch).cpu()
            found.append((values.unflatten(0, views.shape[:2]), labels, indices))
    return Features(*map(torch.cat, zip(*found, strict=True)))


def check_finite(features: Features, videos: Sequence[Video]) -> None:
    """Raises UserError, which names a video, where a feature is not a number."""
    wrong = features.indices[~features.values.isfinite().all(dim=2).all(dim=1)].tolist()
    if wrong:
        raise UserError(
            f"the features of {len(wrong)} of {len(videos)} videos are not finite, the first is "
            f"{videos[wrong[0]].path}: the weights are of no use, or too large for --precision"
        )


def load_features(path: Path, videos: Sequence[Video], sources: list[Source]) -> Features | None:
    """What `save_features` has kept at `path` of some of `videos`, if they have not changed.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        state = load_checked(path)
        features, notes = Features(*state["features"]), state.get("sources")
        pairs = None if notes is None else list(zip(sources, notes, strict=True))
        values, labels, indices = features
        labels_of_list = torch.tensor([video.label for video in videos])
        whole = (
            values.dim() == 3
            and values.dtype == torch.float32
            and values.numel() > 0
            and values.isfinite().all()
            and len(values) == len(indices) == len(indices.unique())
            and labels.dtype == labels_of_list.dtype
            and labels.equal(labels_of_list[indices])
        )
    except Exception as error:  # zipfile and torch have no common error for damaged files
        raise UserError(f"{path} is damaged ({type(error).__name__}); delete it") from None
    refuse(not whole, f"{path} does not hold the features of these videos; delete it")
    if pairs is None:
        log.info(
            f"{path} is of an earlier version, which took no note of the videos: whether they "
            "have changed was not checked"
        )
        return features
    num_changed = are_same(pairs).count(False)
    if num_changed:
        log.info(f"{num_changed} of {len(sources)} videos have changed since {path} was made")
    return None if num_changed else features


def save_features(path: Path, features: Features, notes: list[Note]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made ({error.strerror})") from None
    checkpoint.save({"features": tuple(features), "sources": notes}, path)


def train_head(
    features: torch.Tensor,
    labels: torch.Tensor,
    head: nn.Linear,
    *,
    dropout: float,
    lr: float,
    seed: int,
    weights: torch.Tensor | None = None,
    epochs: int = EPOCHS,
) -> nn.Linear:
    """A new head like `head`, trained with AdamW and a cosine on one random view a video an epoch.

    Args:
        features: (videos, views, dim), of which dropout zeroes a share.
        labels: (videos,)
        weights: (classes,), how many times a video of each counts.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = copy.deepcopy(head).cpu().float()
        head.reset_parameters()
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
        optimizer.param_groups[0]["initial_lr"] = lr
        steps = -(-len(labels) // BATCH_SIZE)
        cosine = Optimization(epochs=epochs, batch_size=BATCH_SIZE, lr=lr, schedule="cosine")
        schedule = Schedule(optimizer, steps, cosine)
        for epoch in range(epochs):
            order = torch.randperm(len(labels), generator=generator)
            views = torch.randint(features.shape[1], (len(labels),), generator=generator)
            for step, videos in enumerate(order.split(BATCH_SIZE)):
                schedule.set_lr(epoch * steps + step)
                seen = nn.functional.dropout(features[videos, views[videos]], dropout)
                loss = cross_entropy(head(seen), labels[videos], weight=weights)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    if not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise UserError(f"the head with lr {lr:g} has no finite weights; take lower --head-lrs")
    return head


@torch.inference_mode()
def evaluate_head(
    run: Run, head: nn.Linear, features: Features, videos: Sequence[Video], source: str
) -> Scores:
    """What `head`, which `source` names, says of `videos`, whose features these are."""
    return Scores(
        scores=average_views(head(features.values), run.opts.average).numpy(),
        labels=features.labels.numpy(),
        names=[videos[i].path for i in features.indices.tolist()],
        class_names=run.lists.class_names,
        average=run.opts.average,
        protocol=build.full_protocol(run, part(Evaluation, run.opts), source),
        num_skipped=len(videos) - len(features.indices),
    )
