"""What a run works with, made of its settings: loaders, trainer, logger, saver, scores."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from config import Curves, Evaluation, Loading, Optimization, Regularization, UserError, part
from opts import Options
from pt_dataset.loader import Batch, Loader, train_loader, view_loader
from pt_dataset.video_list import Video
from utils import distributed
from utils.averages import Averages
from utils.checkpoint import Saver
from utils.evaluator import score_batches, score_videos
from utils.interrupt import GracefulStop
from utils.loggers import (
    CurvesPng,
    JsonLines,
    Logger,
    Loggers,
    ValidationFiles,
    progress_bar,
    read_lines,
)
from utils.mistakes import Mistakes
from utils.results import protocol_in_words
from utils.run import EASILY, NEW_RUN, Fit, Run, is_small, share_size
from utils.scores import Scores
from utils.trainer import Trainer

WITH_WEIGHTS = 8  # times their bytes: gradients, momentum, and what loader processes keep of them


def adapt_network(model: nn.Module, opts: Options) -> tuple[nn.Module, list[nn.Module]]:
    """The network as the options change it, and those of its parts that keep their weights."""
    frozen: list[nn.Module] = []
    if opts.sync_bn and not opts.evaluate:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if opts.freeze or opts.freeze_bn:
        from utils.options.freeze import freeze_norms, freeze_until

        frozen += freeze_until(model, opts.freeze) if opts.freeze else []
        frozen += freeze_norms(model) if opts.freeze_bn else []
    if opts.checkpoint_activations:
        from utils.options.activations import compute_activations_twice

        compute_activations_twice(model)
    return model, frozen


def training_loader(run: Run) -> Loader:
    """Batches of one random clip of each training video, this process's share of them."""
    opts = run.opts
    return train_loader(
        run.lists,
        run.preprocessing,
        run.augmentation,
        part(Loading, opts),
        batch_size=opts.batch_size,
        seed=opts.seed,
        repeats=opts.repeats,
        shard=(distributed.rank(), distributed.world_size()),
        equal_shares=opts.sync_bn,
    )


def build_trainer(run: Run, loader: Loader) -> Trainer:
    """Optimizer, schedule and all else that moves with the steps, as the checkpoint left it.

    Raises:
        UserError: the checkpoint is of epochs of another length.
    """
    opts, before = run.opts, run.start.checkpoint
    if before and before["steps_per_epoch"] != len(loader):
        raise UserError(
            f"{opts.resume} was trained with another number of steps an epoch, "
            f"{before['steps_per_epoch']} and not {len(loader)}: --batch-size or the training list "
            f"has changed; {NEW_RUN.format(opts.resume)}"
        )
    num_classes, clip_len = len(run.lists.class_names), run.preprocessing.clip_len
    run.fit = run.fit or training_fit(run, loader)
    trainer = Trainer(
        run.classifier,
        run.model,
        part(Optimization, opts),
        part(Regularization, opts),
        Averages(run.device, num_classes, clip_len, clips_per_s_at_peak(run)),
        loader.new_faults(),
        steps_per_epoch=len(loader),
        precision=run.precision,
        micro_batch=run.fit.clips,
        seed=opts.seed,
        validation_steps=len(run.lists.validation) / opts.batch_size / 3,  # a third: forward only
        frozen=run.frozen,
        class_weights=choose_class_weights(run),
    )
    if before:
        from utils.resume.checkpoint_file import go_on

        go_on(trainer, before, str(opts.resume))
    return trainer


def choose_class_weights(run: Run) -> torch.Tensor | None:
    """Of the loss, see `clip_loss`; None: every clip counts alike."""
    if run.opts.class_weights == "none":
        return None
    from utils.options.class_weights import balanced_weights

    lists = run.lists
    labels, flips = torch.from_numpy(lists.train.labels), lists.flipped_labels()
    weights = balanced_weights(labels, len(lists.class_names), flips, run.augmentation.flip_prob)
    return weights.to(run.device)


def clips_per_s_at_peak(run: Run) -> float | None:
    """How many clips the devices could train on at their peak; None where that is not known."""
    if run.device.type != "cuda":
        return None
    from utils.options.flops import clips_per_s

    one_clip = (1, *run.preprocessing.network_input())
    per_device = clips_per_s(run.model, one_clip, run.device, run.precision)
    several = distributed.uses_all_gpus(run.device)
    devices = torch.cuda.device_count() if several else distributed.world_size()
    return per_device and devices * per_device


def training_fit(run: Run, loader: Loader) -> Fit:
    """How many clips go through the network at once in each process: typed, or as many as fit."""
    opts, share, before = run.opts, share_size(run.opts), run.start.checkpoint
    typed = min(opts.micro_batch, share) if isinstance(opts.micro_batch, int) else None
    shape, kept = run.preprocessing.network_input(), before.get("micro_batch")
    weights = sum(p.nbytes for p in run.model.parameters())
    if is_small(share, shape, EASILY - WITH_WEIGHTS * weights):
        return Fit(typed or min(kept or share, share))
    from utils.memory.of_run import fit_training

    return fit_training(run, loader, typed)


def clips_to_try(opts: Options, shape: tuple[int, ...], device: torch.device) -> int:
    """How many of `shape` show whether the device computes them right: a batch, if it has room.

    A single layer, with its gradients in two precisions, has a quarter of what a step may have. On
    a CPU all of them take seconds: there it was the size of clips that mattered, not their number.
    """
    most = opts.micro_batch if isinstance(opts.micro_batch, int) else share_size(opts)
    if is_small(most, shape):
        return most
    from utils.memory.of_run import QUICK, free_bytes

    room = 4 * free_bytes(device)
    if device.type == "cpu":
        room = min(room, QUICK)
    while most > 1 and not is_small(most, shape, room):
        most //= 2
    return most


def build_logger(run_dir: Path, step: int, epoch: int, curves: Curves) -> Logger:
    """The loggers of a run that has done so much; only the main process logs.

    What is not wanted is not imported.
    """
    if not distributed.is_main():
        return Logger()
    # the files first, which the others read
    found: list[Logger] = [JsonLines(run_dir, step, epoch)]
    found += [ValidationFiles(run_dir, epoch), CurvesPng(run_dir)]
    if "visdom" in curves.logger and not curves.no_visdom:
        from utils.live_page.logger import Visdom

        server = curves.visdom_server, curves.visdom_port
        found.append(Visdom(run_dir, *server, curves.visdom_env))
    if "tensorboard" in curves.logger:
        from utils.options.tensorboard import TensorBoard

        found.append(TensorBoard(run_dir, step))
    return Loggers(*found)


def check_loggers(names: Sequence[str]) -> None:
    """Raises UserError if a logger among `names` needs a package that is not there."""
    if "tensorboard" in names and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--logger tensorboard needs a package: pip install tensorboard")


def build_saver(run: Run, trainer: Trainer) -> Saver:
    """Writes the checkpoints of a run; of one that goes on, no worse one than the best before."""
    opts = run.opts
    facts = {
        "arch": opts.arch,
        "arch_args": run.arch_args,
        "class_names": run.lists.class_names,
        "preprocessing": run.preprocessing.in_files(),
        "evaluation": part(Evaluation, opts).plain(),
        "precision": run.precision,
        "choices": run.choices(),
        "origin": run.start.origin,
        "action": opts.action,
        "data": run.data,
        "trained_on": run.trained_on(),
    }
    validated = distributed.from_main(lambda: read_lines(run.folder / "metrics.jsonl", "val/top1"))
    return Saver(
        trainer,
        run.folder,
        facts,
        chosen_on=run.lists.chosen_on,
        validated=[metrics["val/top1"] for metrics in validated],
        minutes=opts.checkpoint_minutes,
        steps=opts.checkpoint_steps,
    )


@contextlib.contextmanager
def evaluated_weights(run: Run, trainer: Trainer, loader: Loader | None = None) -> Iterator[None]:
    """Inside, the network is what an evaluation sees: averaged weights, if the run has them.

    Args:
        loader: of training, for --precise-bn, which measures batch norm anew.
    """
    with trainer.ema.applied() if trainer.ema else contextlib.nullcontext():
        if loader and run.opts.precise_bn:
            from utils.options.precise_bn import measure_norms

            batches = distributed.sharing_faults(loader.epoch(trainer.epoch), loader.new_faults())
            measure_norms(
                run.classifier,
                batches,
                run.opts.precise_bn,
                trainer.micro_batch,
                run.device,
                run.frozen,
            )
        distributed.share_buffers(run.model)
        yield


def score(
    run: Run,
    videos: Sequence[Video],
    evaluation: Evaluation,
    stop: GracefulStop,
    *,
    desc: str,
    source: str,
    order: str = "normal",
    mistakes: Mistakes | None = None,
) -> Scores:
    """What the network says of `videos`.

    Args:
        desc: what the progress bar is called.
        source: which weights the network has, in words.
        order: of the frames of a clip, see pt_dataset/inputs/orders.py.
        mistakes: watches.
    """
    if evaluation.views.clips is None:  # whole videos: for each new length cuDNN would try anew
        torch.backends.cudnn.benchmark = False
    scored = score_batches(
        run.classifier,
        view_batches(run, videos, evaluation, stop, desc=desc, order=order),
        run.device,
        average=evaluation.average,
        view_batch=view_batch(run) if evaluation.views.clips else run.opts.view_batch or 1,
    )
    names = [video.path for video in videos]
    return score_videos(
        mistakes.watch(scored, names) if mistakes else scored,
        names=names,
        class_names=run.lists.class_names,
        average=evaluation.average,
        protocol=full_protocol(run, evaluation, source),
    )


def view_batches(
    run: Run,
    videos: Sequence[Video],
    evaluation: Evaluation,
    stop: GracefulStop,
    *,
    desc: str,
    order: str = "normal",
) -> Iterator[Batch]:
    """Views of `videos`, batch by batch under a progress bar; a signal ends them between two."""
    loader = view_loader_for(run, videos, evaluation, order)
    batches = distributed.sharing_faults(loader.epoch(), loader.new_faults())
    with contextlib.closing(batches):
        yield from stop.between(progress_bar(batches, desc, len(loader), "batch"))


def view_loader_for(
    run: Run, videos: Sequence[Video], evaluation: Evaluation, order: str = "normal"
) -> Loader:
    """The loader of `videos`, the same one each time, so that its processes start only once."""
    key = id(videos), evaluation.views, evaluation.full_crop, order
    if key not in run.view_loaders:
        loader = run.view_loaders[key] = view_loader(
            videos,
            evaluation.seen_of(run.preprocessing),
            evaluation.views,
            part(Loading, run.opts),
            batch_size=view_batch(run),
            shard=(distributed.rank(), distributed.world_size()),
            order=order,
        )
        if evaluation.views.clips is None:
            from utils.memory.of_run import check_whole_videos

            check_whole_videos(run, loader.clips, evaluation.views.crops)
    return run.view_loaders[key]


def view_batch(run: Run) -> int:
    """Views that a process has on its devices at once: typed, or as in training, or as fit."""
    opts, share, typed = run.opts, share_size(run.opts), run.opts.view_batch
    if typed is None and isinstance(opts.micro_batch, int):
        typed = min(opts.micro_batch, share)
    if run.fit is None:  # nothing is trained
        together, shape = opts.views.of_video(part(Evaluation, opts).seen_of(run.preprocessing))
        how = run.device, opts.workers, together
        from utils.memory.of_run import views_that_fit

        run.fit = Fit(typed or views_that_fit(run.model, shape, share, *how))
    return typed or run.fit.clips


def full_protocol(run: Run, evaluation: Evaluation, source: str) -> str:
    """How something was measured: the views, the videos and the weights."""
    words = protocol_in_words(evaluation, run.preprocessing)
    return f"{words}; {run.opts.dataset} split {run.opts.split}; {source}"
