"""--plan: what a run would take, from a few of its steps."""

import itertools
import logging
import os
from collections.abc import Iterator

import torch

from pt_dataset.loader import Loader
from utils import distributed
from utils.averages import timed
from utils.build import build_trainer, training_loader
from utils.interrupt import GracefulStop
from utils.run import Run, share_size
from utils.trainer import Trainer
from utils.words import run_in_words

STEPS = 20
SKIPPED = 3  # of them, in which workers start and kernels are chosen
WAITING = 20  # percent of the time for data that is worth a word
FULL = 0.9  # of the GPU's memory, from which on a run may well end in the middle
log = logging.getLogger("video")


def plan(run: Run, stop: GracefulStop) -> int:
    """A few steps, and what the whole run would take; nothing is written."""
    opts, loader = run.opts, training_loader(run)
    trainer = build_trainer(run, loader)
    for line in run_in_words(run, trainer):
        log.info(line)
    steps_left = opts.epochs * len(loader) - trainer.step
    metrics = measure(trainer, stop.between(endless_batches(loader)))
    hours = total_hours(metrics, steps_left, opts.epochs * len(run.lists.validation))
    log.info(
        f"plan: about {hours:.2g} hours for {steps_left} steps and the validations between them; "
        f"{metrics['clips_per_s']:.1f} clips/s, {metrics['memory_gb']:.1f} GiB, "
        f"{bottleneck(metrics)}"
    )
    gpu = run.device.type == "cuda"
    for line in suggestions(
        metrics,
        workers=opts.workers,
        cores=os.cpu_count() or 1,
        precision=run.precision,
        memory_limit_gb=torch.cuda.mem_get_info(run.device)[1] / 2**30 if gpu else None,
        whole_batch=trainer.micro_batch == share_size(opts),
    ):
        log.info(f"try {line}")
    return 0


def measure(trainer: Trainer, batches: Iterator[tuple]) -> dict[str, float]:
    """Metrics of the steps that are not skipped; the trainer is of no use afterwards."""
    trainer.to_training()
    for step, (waited, (clips, labels, *_)) in enumerate(timed(itertools.islice(batches, STEPS))):
        if step == SKIPPED:
            trainer.wait()
            trainer.averages.start_epoch()
        trainer.train_batch(clips, labels, waited)
    return trainer.read(trainer.averages.total)


def endless_batches(loader: Loader) -> Iterator[tuple]:
    for epoch in itertools.count():
        yield from distributed.sharing_faults(loader.epoch(epoch), loader.new_faults())


def total_hours(metrics: dict[str, float], steps: int, num_evaluated: int) -> float:
    """Of so many steps, and of evaluating so many clips: forward only, a third of a step's work."""
    clips_per_step = metrics["clips_per_s"] * metrics["time/step"]
    return metrics["time/step"] * (steps + num_evaluated / clips_per_step / 3) / 3600


def bottleneck(metrics: dict[str, float]) -> str:
    doing = {"data": "waiting for data", "copy": "copying", "compute": "computing"}
    largest = max(doing, key=lambda name: metrics[f"time/{name}"])
    share = metrics[f"time/{largest}"] / metrics["time/step"]
    return f"{100 * share:.0f} % of the time {doing[largest]}"


def suggestions(
    metrics: dict[str, float],
    *,
    workers: int,
    cores: int,
    precision: str,
    memory_limit_gb: float | None,
    whole_batch: bool,
) -> list[str]:
    """Options that are worth a try, each with its reason.

    Args:
        memory_limit_gb: of the GPU; None on a CPU.
        whole_batch: is the batch computed at once?
    """
    found = []
    if 100 * metrics["time/data"] > WAITING * metrics["time/step"]:
        if workers < cores:
            found.append(f"--workers {cores}: one for each core")
        else:
            found.append("smaller or fewer frames on the disk: every core decodes already")
    if memory_limit_gb is None:
        return found
    share = metrics["memory_gb"] / memory_limit_gb
    if share > FULL:
        found.append("--checkpoint-activations or --micro-batch auto: memory is nearly full")
    elif not whole_batch and share < FULL / 2:
        found.append("--micro-batch auto: half of the memory is free")
    if precision == "fp32":
        found.append("--precision tf32 or bf16: float32 leaves the fast units idle")
    return found
