"""What a run says of itself, and the sentence for what went wrong."""

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from config import Preprocessing, UserError, Views, plural
from pt_dataset.sampling import is_short
from pt_dataset.video_list import Video
from pt_dataset.video_lists import VideoLists
from utils import distributed
from utils.results import duration
from utils.run import Run, recipe_preprocessing, share_size
from utils.trainer import NonFiniteLoss, Trainer

MUCH_WAITING = 10  # percent of the time
NUM_TIMED, LONG = 3, 60  # steps or seconds after which it is said how long a run will take
FINITE = "try a lower --lr, --clip-grad or --precision fp32"  # for a loss that is not


def run_in_words(run: Run, trainer: Trainer) -> list[str]:
    """What this run is, for its first lines."""
    opts, lists = run.opts, run.lists
    million = sum(p.numel() for p in run.model.parameters()) / 1e6
    lines = []
    if opts.recipe == "small" and not run.start.checkpoint:
        from utils.actions.head_only_way import small_recipe_in_words

        lines.append(small_recipe_in_words(run))
    lines += preprocessing_in_words(run) + [
        f"{opts.arch}: {million:.2f} M parameters, "
        f"{run.start.origin or opts.pretrained or 'from an unknown start'}; "
        f"{opts.dataset}: {len(lists.train)} training and {plural(len(lists.test), 'test video')} "
        f"in {len(lists.class_names)} classes (chance {100 / len(lists.class_names):.1f} %); "
        f"{plural(opts.epochs, 'epoch')} of {plural(trainer.steps_per_epoch, 'step')} of "
        f"{plural(opts.batch_size, 'clip')} "
        f"on {run.device.type} in {run.precision}"
    ]
    if distributed.world_size() > 1:
        norm = "of all" if opts.sync_bn else "of its own; those of the first one are saved"
        lines.append(
            f"{distributed.world_size()} processes, each with {share_size(opts)} of the clips at "
            f"most and batch norm's statistics {norm}"
        )
    if opts.val_groups:
        lines.append(f"validation: {plural(len(lists.validation), 'video')}, {lists.chosen_on}")
    if "scaled" in opts.sources["lr"]:
        clips = plural(opts.batch_size, "clip")
        lines.append(f"learning rate: {opts.lr:g} for {clips} ({opts.sources['lr']})")
    if trainer.micro_batch < share_size(opts):
        why = f", since {run.fit.why}" if run.fit and run.fit.why else ""
        lines.append(
            f"micro-batches of {plural(trainer.micro_batch, 'clip')} at most{why}: gradients are "
            f"those of {opts.batch_size}, batch norm's statistics those of {trainer.micro_batch}"
        )
    if run.frozen:
        trained = sum(p.numel() for p in trainer.parameters) / 1e6
        lines.append(f"frozen: {million - trained:.2f} M parameters keep their values")
    if opts.expected:
        lines.append(f"to expect: {opts.expected}")
    if run.start.checkpoint:
        from utils.resume.start import resumed_in_words

        lines += resumed_in_words(run, trainer)
    return lines


def data_in_words(lists: VideoLists, clip: Preprocessing, views: Views) -> list[str]:
    """What of the lists is not as they say, or not as a clip would have it.

    Args:
        views: of each test video; of the others one clip.
    """
    lines = []
    if lists.num_remapped:
        lines.append(
            f"labels that disagreed with classes.txt and now follow it: {lists.num_remapped}"
        )
    sides = {"training": (lists.train, 1), "test": (lists.test, views.clips)}
    short = {
        f"of {len(videos)} {side}": sum(is_short(video, clip, clips) for video in videos)
        for side, (videos, clips) in sides.items()
    }
    if any(short.values()):
        counts = " and ".join(f"{count} {of}" for of, count in short.items())
        what = "are spread over them and share frames" if clip.snippet_len else "loop them"
        noun = "segments" if clip.snippet_len else "clips"
        lines.append(f"short videos: {counts} videos are shorter than a clip; {noun} {what}")
    return lines + rates_in_words(clip, lists.train, lists.test)


def rates_in_words(clip: Preprocessing, *lists: Sequence[Video]) -> list[str]:
    """Of how many videos the rate is not known, where a clip has one."""
    if not clip.target_fps:
        return []
    known = [bool(video.fps) for video in chain(*lists)]
    if all(known):
        return []
    return [
        f"frame rates: that of {known.count(False)} of {len(known)} videos is not known, and their "
        f"frames are taken as they are, not at {clip.target_fps:g} a second; lists of video files "
        "and of extract_frames.py's frames have it; --fps of --predict or --target-fps 0 settles it"
    ]


def evaluation_in_words(run: Run) -> list[str]:
    """What an evaluation has that is not the training's: its videos, and its folder."""
    from utils.resume.start import changes_in_words

    opts, folder = run.opts, run.results_folder
    other = {"dataset", "split"} & opts.changed.keys()
    lines = [] if other else changes_in_words(run, "test")
    if folder != run.folder:
        lines.append(
            f"results of {opts.resume} on {opts.dataset} split {opts.split} go to {folder}; those "
            f"of the run stay in {run.folder}"
        )
    return lines


def preprocessing_in_words(run: Run) -> list[str]:
    """What the weights that a run starts from need, and its recipe would have otherwise."""
    if not run.start.weights:
        return []
    recipe = vars(recipe_preprocessing(run.opts))
    return [
        f"preprocessing: {name} {value}, as {run.start.name} was trained; the recipe would have "
        f"{recipe[name]}"
        for name, value in vars(run.preprocessing).items()
        # fps: target_fps says it
        if name not in ("fps", "fixed_segments") and value != recipe[name]
    ]


def epoch_in_words(
    metrics: dict[str, float], epochs: int, seconds: float, advice: str
) -> list[str]:
    """An epoch and its validation.

    Args:
        epochs: of the run.
        seconds: that this one took.
        advice: against waiting for data, if much of the time went there.
    """
    waiting, copying = (100 * metrics[f"time/{n}"] / metrics["time/step"] for n in ("data", "copy"))
    mean = metrics.get("val/mean_class_accuracy")
    hours_left = (epochs - metrics["epoch"]) * seconds / 3600
    line = (
        f"epoch {metrics['epoch']}/{epochs}: train loss {metrics['train/loss']:.3f} top-1 "
        f"{metrics['train/top1']:.1f} %, "
        f"validation loss {metrics['val/loss']:.3f} top-1 {metrics['val/top1']:.1f} %"
        + (f", mean class accuracy {mean:.1f} %" if mean is not None else "")
        + " (one center clip a video); "
        f"{metrics['clips_per_s']:.1f} clips/s, {waiting:.0f} % of the time waiting for data, "
        + (f"{copying:.0f} % copying, " if copying >= 1 else "")
        + (f"{metrics['utilization']:.0f} % of the peak, " if "utilization" in metrics else "")
        + (f"{metrics['memory_gb']:.1f} GiB" if "memory_gb" in metrics else "memory not known")
        + (f", {duration(hours_left)} left" if hours_left > 0 else "")
    )
    return [line] + ([f"to wait less for data: {advice}"] if waiting > MUCH_WAITING else [])


class Forecast:
    """When the run ends, said once: after three steps, or after the first one that ends later than
    a minute; before them where a step was tried, and they would take longer than that."""

    def __init__(self, run: Run, trainer: Trainer):
        self.run, self.trainer, self.ends = run, trainer, [time.perf_counter()]

    def before(self) -> list[str]:
        """Before the first step: the sentence, where it is clear that they will take long."""
        a_clip = self.run.fit.clip_seconds if self.run.fit else None
        a_step = (a_clip or 0) * share_size(self.run.opts)
        if NUM_TIMED * a_step < LONG or not self.trainer.steps_left:
            return []
        self.ends.clear()
        return [self.in_words(a_step)]

    def lines(self) -> list[str]:
        """After a step: the sentence, if this is the one after which it is said."""
        if not self.ends:
            return []
        self.trainer.wait()
        self.ends.append(time.perf_counter())
        if len(self.ends) <= NUM_TIMED and self.ends[-1] - self.ends[0] < LONG:
            return []
        first, *_, last = timed = self.ends[len(self.ends) > 2 :]  # the first step prepares things
        self.ends = []
        return [self.in_words((last - first) / (len(timed) - 1))]

    def in_words(self, a_step: float) -> str:
        from utils.actions.plan import time_in_words

        return time_in_words(self.run, self.trainer, a_step)


def source_in_words(run: Run, state: dict[str, Any]) -> str:
    """Which weights are evaluated, and what of the test videos they have seen."""
    number, total = run.num_trained_on, len(run.lists.test)
    known = "an unknown number" if number is None else str(number or "none")
    return f"{weights_in_words(state)}; trained on {known} of the {plural(total, 'test video')}"


def weights_in_words(state: dict[str, Any]) -> str:
    """Which weights of its run a checkpoint has, where they came from and what chose them."""
    origin, looked_at = state["origin"], state["chosen_on"]
    verb, whose = "of" if looked_at else "after", "their"
    words = f"{'averaged ' if state['ema'] else ''}weights {verb} epoch {state['epoch']}"
    if state["action"] == "head_only":
        words, whose = f"head on frozen {origin}", "its"
    elif origin not in (None, "from scratch"):
        words += f" of a training from {origin}"
    if looked_at:
        words += f", chosen for {whose} accuracy on {looked_at}"
    elif not state["choices"] and state["trained_on"] is not None:  # else not known
        words += ", chosen without looking at the test videos"
    return "; ".join([words, *state["choices"]])


@contextmanager
def training_errors(folder: Path) -> Iterator[None]:
    """Inside, what ends a training says how to go on.

    Raises:
        UserError: the loss is not finite, or the disk is full.
    """
    last = folder / "last.pth"
    try:
        yield
    except NonFiniteLoss as error:
        raise UserError(f"{error}; the last good checkpoint is {last}; {FINITE}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk of {folder} is full; make room there and go on with --resume {last}, which "
            "is whole"
        ) from None
