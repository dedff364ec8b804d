"""--plan: what a run would take, from a few of its steps."""

import itertools
import logging
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import torch

from config import Clip, UserError, part, plural
from opts import resolve
from pt_dataset.loader import Loader
from utils import distributed
from utils.averages import timed
from utils.build import build_trainer, training_loader
from utils.interrupt import GracefulStop
from utils.loggers import say
from utils.memory.trial import forget_peak
from utils.options.flops import forward_flops
from utils.results import duration
from utils.run import Run, share_size
from utils.trainer import Trainer
from utils.words import LONG, Forecast, run_in_words

STEPS = 20
SKIPPED = 3  # of them, in which workers start and kernels are chosen
WAITING = 20  # percent of the time for data that is worth a word
FULL = 0.9  # of the GPU's memory, from which on a run may well end in the middle
log = logging.getLogger("video")


def plan(run: Run, stop: GracefulStop) -> int:
    """A few steps, and what the whole run would take; nothing is written."""
    opts, loader = run.opts, training_loader(run)
    trainer = build_trainer(run, loader)
    known = Forecast(run, trainer).before()  # where steps are long, from a few clips
    say(run_in_words(run, trainer) + known)
    steps_left = opts.epochs * len(loader) - trainer.step
    if known or steps_left <= 0:  # which is said, too
        return 0
    metrics = measure(trainer, stop.between(endless_batches(loader)))
    hours = total_hours(metrics, steps_left, opts.epochs * len(run.lists.validation))
    memory = f"{metrics['memory_gb']:.1f} GiB, " if "memory_gb" in metrics else ""
    log.info(
        f"plan: about {duration(hours)} for {plural(steps_left, 'step')} and the validations "
        "between them; "
        f"{metrics['clips_per_s']:.1f} clips/s, {memory}"
        f"{bottleneck(metrics)}"
        + (quicker_in_words(run, trainer, hours) if hours > 1 and run.device.type == "cpu" else "")
    )
    gpu = run.device.type == "cuda"
    found = suggestions(
        metrics,
        workers=opts.workers,
        cores=os.cpu_count() or 1,
        precision=run.precision,
        memory_limit_gb=torch.cuda.mem_get_info(run.device)[1] / 2**30 if gpu else None,
        whole_batch=trainer.micro_batch == share_size(opts),
    )
    say(f"try {line}" for line in found)
    return 0


def measure(trainer: Trainer, batches: Iterator[tuple]) -> dict[str, float]:
    """Metrics of the steps that are not skipped; the trainer is of no use afterwards.

    After a minute three steps are enough, the first ones among them.
    """
    trainer.to_training()
    began = time.perf_counter()
    for step, (waited, (clips, labels, *_)) in enumerate(timed(itertools.islice(batches, STEPS))):
        if step == SKIPPED:
            trainer.wait()
            trainer.averages.start_epoch()
            forget_peak(trainer.averages.device)
        trainer.train_batch(clips, labels, waited)
        if step + 1 >= SKIPPED and time.perf_counter() - began > LONG:
            break
    return trainer.read(trainer.averages.total)


def time_in_words(run: Run, trainer: Trainer, a_step: float) -> str:
    """How long the run will take with so many seconds a step, and when that is.

    On a CPU also what takes less, where it is over an hour.
    """
    clips, clip = run.opts.views.clips or 10, run.preprocessing
    if clip.snippet_len:  # of segments a view has more than a clip of training, or fewer
        num_clips, segments = clip.segments_of_views(clips)
        clips = num_clips * segments * clip.snippet_len / clip.clip_len
    views = len(run.lists.test) * clips * run.opts.views.crops
    evaluation = views / run.opts.batch_size / 3  # in steps: forward only
    hours = a_step * (trainer.steps_left + evaluation) / 3600
    end = datetime.now() + timedelta(hours=hours)
    day = f"on {end:%A, %d %B %Y} at" if end.date() > datetime.now().date() else "at"
    line = f"time: about {duration(hours)} to the end of the run, {day} {end:%H:%M}"
    if hours > 1 and run.device.type == "cpu":
        line += quicker_in_words(run, trainer, hours)
    return line


def quicker_in_words(run: Run, trainer: Trainer, hours: float) -> str:
    """What to type for a run that takes less than `hours`, and how long that would take.

    By the arithmetic of both: work that a CPU does as fast for small clips as for large ones.
    """
    opts = run.opts
    typed = {name: value for name, value in opts.values().items() if opts.typed(name)}
    try:
        other = resolve(typed | {"recipe": "small"})
    except UserError:  # it does not go with what is typed
        return ""
    shapes = run.preprocessing.network_input(), part(Clip, other).network_input()
    work = [forward_flops(run.model, (1, *shape)) for shape in shapes]
    epochs = trainer.steps_left / trainer.steps_per_epoch
    less = hours * work[1] / work[0] * other.epochs / epochs
    if less > hours / 2:
        return ""
    return f"; with --recipe small about {duration(less)}"


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
