"""Train or evaluate a video classifier.

python main.py --arch i3d --dataset demo                    # writes its own data: try this first
python main.py --arch i3d --dataset ucf101                  # from scratch
python main.py --arch i3d --dataset ucf101 --pretrained i3d_rgb_piergiaj
python main.py --resume saved_model/i3d_ucf101_1/last.pth   # go on
python main.py --arch i3d --dataset ucf101 --resume auto    # go on, or start: for job schedulers
python main.py --resume saved_model/i3d_ucf101_1/last.pth --evaluate --views 10x3
torchrun --nproc_per_node=4 main.py --arch i3d --dataset ucf101   # four processes, a GPU each
python main.py --arch i3d --dataset ucf101 --splits 1 2 3       # all three, and their mean
python main.py --resume saved_model/i3d_ucf101_1/last.pth --predict clip.mp4
python main.py --arch i3d --dataset ucf101 --pretrained i3d_rgb_piergiaj --head-only
"""

import argparse
import contextlib
import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from opts import answered, parse_opts

# --help, --print-config and a wrong option are answered by one process, before torch takes its
# seconds to import
if __name__ == "__main__" and os.environ.get("RANK", "0") == "0" and answered(parse_opts()):
    sys.exit()

import torch
from torch import nn

from config import ARCHS, INTERRUPTED, RUNS, Optimization, Regularization, UserError, Views, part
from models import build_model, weights
from pt_dataset.clip_dataset import ClipShape, VideoLists, check_clips, read_dataset
from pt_dataset.loader import Loader, train_loader, view_loader
from pt_dataset.video_list import Video
from pt_dataset.windows import ORDERS, OrderedClips
from utils import (
    build,
    checkpoint,
    distributed,
    evaluator,
    head,
    loggers,
    probe_time,
    series,
    use,
)
from utils.actions import plan
from utils.averages import Averages
from utils.features import digest_of
from utils.inference import FeatureNetwork
from utils.interrupt import GracefulStop, Stop
from utils.metrics import top_k
from utils.mistakes import Mistakes
from utils.normalize import ClipClassifier, Normalize
from utils.options import flops, micro_batch
from utils.options.activations import compute_activations_twice
from utils.options.compile import compiled
from utils.options.freeze import freeze_norms, freeze_until
from utils.options.precise_bn import measure_norms
from utils.precision import choose_precision
from utils.resolve import (
    CLIP_OPTIONS,
    check_resumed,
    check_shares,
    clips_at_once,
    entry_of,
    pick_device,
    preprocessing_of,
    share_size,
    short_side_range,
)
from utils.trainer import NonFiniteLoss, Trainer

AUGMENTATION = ("crop", "crop_area", "crop_ratio", "crop_scales", "color_jitter")
LOADER_OPTIONS = ("batch_size", "workers", "on_bad_frame", "max_bad_share")
MUCH_WAITING = 0.1  # share of the time
log = logging.getLogger("video")


@dataclass
class Run:
    """What training and evaluation share."""

    opts: argparse.Namespace
    folder: Path
    device: torch.device
    resumed: dict | None  # the checkpoint of --resume
    lists: VideoLists
    validation: Sequence[Video]  # what is evaluated after each epoch
    chosen_on: str  # where those videos come from, in words
    preprocessing: dict
    clip: ClipShape
    arch_args: dict
    model: nn.Module  # the plain network: its keys are the saved ones
    classifier: nn.Module  # from uint8 clips, wrapped for the devices
    precision: str
    frozen: list[nn.Module]  # parts that keep their weights
    view_loaders: dict[tuple, Loader] = field(default_factory=dict)  # of view_loader_of


def main(argv: list[str] | None = None) -> int:
    """One run; returns the exit status.

    Raises:
        UserError: something that the user can mend.
    """
    opts = parse_opts(argv)
    if opts.list_weights:
        print(weights.table())
        return 0
    alone = opts.use or opts.head_only or opts.probe_time
    if alone and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "--predict, --extract-features, --export, --head-only and --probe-time run in one "
            "process: python main.py, without torchrun"
        )
    if opts.use:
        loggers.set_up_console()
        return getattr(use, opts.use)(opts, pick_device(opts.device))
    if answered(opts):
        return 0
    with distributed.joined():
        opts = distributed.from_main(lambda: opts)
        if opts.splits:
            return train_splits(opts, sys.argv[1:] if argv is None else argv)
        run = set_up(opts)
        if opts.plan:
            return print_plan(run)
        with GracefulStop() as stop:
            if run.opts.head_only:
                return train_heads(run, stop)
            return evaluate(run, stop) if run.opts.evaluate else train(run, stop)


def train_splits(opts: argparse.Namespace, argv: list[str]) -> int:
    """A run for each of --splits, or its evaluation; returns the exit status."""
    if distributed.is_main():
        loggers.set_up_console()
    for split in opts.splits:  # a list that is missing is said before the first hour
        with distributed.in_turn():
            read_dataset(opts.dataset, opts.data_root, split)
    return series.run_series(
        main, argv, splits=opts.splits, evaluate=opts.evaluate, prefix=RUNS / opts.name
    )


def set_up(opts: argparse.Namespace) -> Run:
    """Everything that can fail before the first step, in an order that leaves nothing behind."""
    if distributed.is_main():
        loggers.set_up_console()
    build.check_installed(opts.logger)
    resumed = entry = None
    if opts.resume:  # the run folder need not be there on other machines
        resumed = distributed.from_main(lambda: checkpoint.load(Path(opts.resume)))
    if opts.head_only and resumed:  # a start from its weights, not the same run
        entry, resumed = entry_of(opts, resumed), None
    if resumed:
        check_resumed(opts, resumed)
    folder = RUNS / opts.name if opts.name else Path(opts.resume).parent
    exists = distributed.from_main(folder.exists)
    if exists and not (resumed or opts.auto or opts.plan):
        raise UserError(
            f"the run folder {folder} exists; go on with --resume {folder / 'last.pth'}, "
            "or choose another --name"
        )
    device = pick_device(opts.device)
    check_shares(opts, device)
    torch.manual_seed(opts.seed)

    # data
    skip = opts.on_bad_frame == "skip"
    with distributed.in_turn():
        lists = read_dataset(opts.dataset, opts.data_root, opts.split, some_missing=skip)
    if lists.num_remapped:
        log.info(
            f"labels: {lists.num_remapped} entries disagreed with classes.txt and now follow it"
        )
    validation, chosen_on = lists.test, str(lists.test_list)
    if opts.val_groups:
        from pt_dataset.listing.groups import hold_out

        kept, validation, groups = hold_out(lists.train, opts.val_groups)
        chosen_on = f"groups {', '.join(groups)} of {lists.train_list}"
        lists = replace(lists, train=kept)
    if resumed and resumed["class_names"] != lists.class_names:
        raise UserError(
            f"{opts.resume} was trained on other classes than those of {lists.folder}/classes.txt"
        )
    if opts.pretrained and not (entry or resumed):
        entry = weights.find(opts.pretrained, opts.arch, opts.arch_args)
    preprocessing = preprocessing_of(opts, entry, resumed)
    clip = ClipShape(
        **{name: preprocessing[name] for name in (*CLIP_OPTIONS, "resize", "antialias")},
        **{name: getattr(opts, name) for name in AUGMENTATION},
        short_side=short_side_range(opts, preprocessing),
    )
    check_clips(lists, clip, num_crops=opts.views.crops)

    # model
    arch_args = {"dropout": opts.dropout, "bn_momentum": opts.bn_momentum} | opts.arch_args
    arch_args |= ARCHS[opts.arch].modalities[opts.modality]
    start = {}
    if entry and not opts.resume:
        start = {"weights": opts.pretrained, "weights_file": opts.pretrained_file}
    if entry or resumed:  # what weights were trained with comes before the recipe
        typed = {name: value for name, value in arch_args.items() if name in opts.given}
        arch_args |= (resumed["arch_args"] if resumed else entry.arch_args) | typed
    with distributed.in_turn():
        model = build_model(opts.arch, len(lists.class_names), **start, **arch_args)
    if opts.sync_bn and not opts.evaluate:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if resumed:
        averaged = opts.evaluate and resumed["ema"]
        weights.load_exactly(model, averaged["average"] if averaged else resumed["model"])
    elif entry and opts.resume:
        weights.load(model, entry, opts.resume)
    frozen = freeze_until(model, opts.freeze) if opts.freeze else []
    if opts.freeze_bn:
        frozen += freeze_norms(model)
    if opts.checkpoint_activations:
        compute_activations_twice(model)
    batch_shape = (clips_at_once(opts), *clip.network_input())
    with distributed.in_turn():
        precision = choose_precision(opts.precision, device, model, batch_shape)
    precision = distributed.from_main(lambda: precision)  # where machines differ
    torch.backends.cudnn.benchmark = True  # clips have one shape: try the kernels, keep the best
    pixels = (preprocessing[name] for name in ("mean", "std", "value_range", "channel_order"))
    normalize = Normalize(*pixels, opts.channels_last)
    classifier = ClipClassifier(model, normalize, precision).to(device)
    if device == torch.device("cuda") and torch.cuda.device_count() > 1:
        classifier = nn.DataParallel(classifier)
    if opts.compile:
        classifier = compiled(classifier, device)
    classifier = distributed.wrapped(classifier, device)
    return Run(
        opts=opts,
        folder=folder,
        device=device,
        resumed=resumed,
        lists=lists,
        validation=validation,
        chosen_on=chosen_on,
        preprocessing=preprocessing,
        clip=clip,
        arch_args=arch_args,
        model=model,
        classifier=classifier,
        precision=precision,
        frozen=frozen,
    )


def train(run: Run, stop: GracefulStop) -> int:
    """All epochs that are left, each with its validation, then the evaluation of the end."""
    opts, folder = run.opts, run.folder
    loader = loader_of(run)
    trainer = build_trainer(run, loader)
    if distributed.is_main():
        start_run_folder(folder, opts)
    for line in (*in_words(run, trainer, len(loader)), *resumed_in_words(run, len(loader))):
        log.info(line)
    logger = build_logger(run, trainer)
    saver = Saver(run, trainer, opts.checkpoint_minutes, opts.checkpoint_steps)
    try:
        if not distributed.from_main((folder / "last.pth").exists):
            saver.save("last.pth")  # from now on there is always one to go on from
        return train_epochs(run, trainer, loader, saver, logger, stop)
    except NonFiniteLoss as error:
        raise UserError(
            f"{error}; the last good checkpoint is {folder / 'last.pth'}; try a lower --lr, "
            "--clip-grad or --precision fp32"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk of {folder} is full; make room there and go on with --resume "
            f"{folder / 'last.pth'}, which is whole"
        ) from None
    finally:
        logger.close()


def train_epochs(
    run: Run,
    trainer: Trainer,
    loader: Loader,
    saver: "Saver",
    logger: loggers.Logger,
    stop: GracefulStop,
) -> int:
    """The part of `train` that a signal can end; returns the exit status."""
    opts, folder = run.opts, run.folder
    validated = distributed.from_main(lambda: loggers.read_lines(folder / "metrics.jsonl"))
    best = max((m["val/top1"] for m in validated), default=-1)

    try:
        while trainer.epoch < opts.epochs:
            began = time.perf_counter()
            batches = loader.epoch(trainer.epoch, trainer.done)
            for logged in stop.between(trainer.steps(batches, opts.log_every)):
                if logged:
                    logger.log_steps(logged)
                saver.save_if_due()
            with weights_to_evaluate(run, trainer, loader):
                mistakes, desc = Mistakes(run.lists.class_names), f"validate {trainer.epoch + 1}"
                one = Views(1, 1)
                scores = score(run, run.validation, one, desc, stop.check, on_batch=mistakes.add)
            mistakes = mistakes.of_all_processes()
            metrics = trainer.end_epoch(evaluator.validation_metrics(*scores[:3]))
            left = (opts.epochs - trainer.epoch) * (time.perf_counter() - began) / 3600
            log.info(epoch_in_words(trainer.epoch, opts.epochs, metrics, left))
            if metrics["time/data"] > MUCH_WAITING * metrics["time/step"]:
                log.info(f"to wait less for data: {loader.advice()}")
            logger.log_epoch(metrics, mistakes)
            if metrics["val/top1"] > best:
                best = metrics["val/top1"]
                saver.save("best.pth", chosen_on=run.chosen_on)
            saver.save("last.pth")  # last: what a kill before it leaves out is done again
        with trainer.ema.applied() if trainer.ema else contextlib.nullcontext():
            report(run, weights_in_words(saver.state()), stop.check)
    except Stop as request:
        saver.save("last.pth")
        log.info(f"{request}; go on with --resume {folder / 'last.pth'}")
        return request.status
    log.info(f"checkpoint: {folder / 'last.pth'}")
    for place in logger.places():
        log.info(place)
    return 0


def evaluate(run: Run, stop: GracefulStop) -> int:
    """The test list, or the probe of time on it; returns the exit status."""
    of_weights = weights_in_words(run.resumed)
    try:
        if run.opts.probe_time:
            probe(run, of_weights, stop.check)
        else:
            report(run, of_weights, stop.check)
            log.info(f"scores and predictions: {run.folder}")
    except Stop as request:
        log.info(f"{request}; nothing was written; the same command starts again")
        return request.status
    return 0


def build_logger(run: Run, trainer: Trainer) -> loggers.Logger:
    """Of all processes the main one alone logs."""
    opts = run.opts
    if not distributed.is_main():
        return loggers.Logger()
    return build.build_logger(
        run.folder,
        trainer.step,
        trainer.epoch,
        [name for name in opts.logger if name != "visdom" or not opts.no_visdom],
        server=opts.visdom_server,
        port=opts.visdom_port,
        env=opts.visdom_env,
    )


def train_heads(run: Run, stop: GracefulStop) -> int:
    """Heads with several learning rates on features that are computed once; saves the best."""
    opts, views = run.opts, run.opts.views
    if getattr(run.model, "consensus", "avg") != "avg":
        raise UserError("--head-only needs a head that follows the features: --consensus avg")
    loader = loader_of(run)  # what it refuses, before the work
    try:
        of_train, of_val, of_test = (
            features_of(run, videos, desc, stop.check)
            for desc, videos in (
                ("training videos", run.lists.train),
                ("validation videos", run.validation),
                ("test videos", run.lists.test),
            )
        )
    except Stop as request:
        log.info(f"{request}; the same command goes on with the lists that are done")
        return request.status
    heads = {
        lr: head.train_head(
            lambda videos, of_view: of_train[0][videos, of_view],
            of_train[1],
            of_train[0].shape[1],
            run.model.head,
            dropout=run.model.dropout.p,
            lr=lr,
            seed=opts.seed,
        )
        for lr in opts.head_lrs
    }
    top1 = {
        lr: top_k(head.scores_of(one, of_val[0], opts.average), of_val[1], 1)
        for lr, one in heads.items()
    }
    start_run_folder(run.folder, opts)
    log.info(f"heads after {head.EPOCHS} epochs:\n{head.table(top1)}")
    best = heads[max(top1, key=top1.get)]
    run.model.head.load_state_dict(best.state_dict())
    trainer = build_trainer(run, loader)
    saver = Saver(run, trainer, 0, 0)
    chosen_on = run.chosen_on if len(heads) > 1 else None
    saver.save("last.pth", chosen_on=chosen_on)
    scores = head.scores_of(best, of_test[0], opts.average)
    words = evaluator.protocol_in_words(views, run.preprocessing, opts.average, opts.full_crop)
    protocol = (
        f"{words}; {opts.dataset} split "
        f"{opts.split}; head on frozen {opts.resume or opts.pretrained}, "
        f"{weights_in_words(saver.state(chosen_on))}"
    )
    seen = of_test[2].tolist()
    num_skipped = len(run.lists.test) - len(seen)
    result = evaluator.result_of(scores, of_test[1], protocol, opts.average, num_skipped)
    names = [run.lists.test[i].path for i in seen]
    evaluator.write_results(run.folder, result, scores, of_test[1], names, run.lists.class_names)
    log.info(evaluator.describe(result))
    log.info(f"checkpoint: {run.folder / 'last.pth'}; --resume with it trains all of the network")
    return 0


def features_of(
    run: Run, videos: Sequence[Video], desc: str, check: Callable[[], None]
) -> head.Features:
    """Features of the views of `videos`, from the cache where they are the same."""
    opts = run.opts
    if opts.views.clips is None:
        raise UserError("--head-only needs --views with a number of clips, such as 5x1")
    inner = run.classifier.module if isinstance(run.classifier, nn.DataParallel) else run.classifier
    extractor = ClipClassifier(FeatureNetwork(run.model), inner.normalize, run.precision)
    extractor.to(run.device)
    key = head.cache_key(
        weights=digest_of(run.model),
        videos=[(*video[:2], *video[3:]) for video in videos],
        preprocessing=run.preprocessing,
        views=[str(opts.views), opts.full_crop],
        precision=run.precision,
        on_bad_frame=opts.on_bad_frame,
    )
    loader = view_loader_of(run, videos, opts.views, opts.full_crop)
    path = RUNS / ".features" / f"{key}.pt"
    found, was_there = head.cached(
        path, lambda: head.compute_features(extractor, loader, run.device, desc, check)
    )
    log.info(f"features of {len(videos)} {desc}: {path}{', computed before' * was_there}")
    return found


def loader_of(run: Run) -> Loader:
    names = (*LOADER_OPTIONS, "flip_prob", "seed")
    return train_loader(
        run.lists,
        run.clip,
        shard=(distributed.rank(), distributed.world_size()),
        equal_shares=run.opts.sync_bn,
        **{name: getattr(run.opts, name) for name in names},
    )


def build_trainer(run: Run, loader: Loader) -> Trainer:
    """Optimizer, schedule and all else that moves with the steps, as the checkpoint left it."""
    opts = run.opts
    if run.resumed and run.resumed["steps_per_epoch"] != len(loader):
        raise UserError(
            f"{opts.resume} was trained with {run.resumed['steps_per_epoch']} steps an epoch, "
            f"and now there are {len(loader)}: --batch-size or the training list has changed; "
            "start a new run with another --name"
        )
    num_classes, clip_len = len(run.lists.class_names), run.clip.clip_len
    trainer = Trainer(
        run.classifier,
        run.model,
        part(Optimization, opts),
        part(Regularization, opts),
        Averages(run.device, num_classes, clip_len, clips_per_s_at_peak(run)),
        loader.new_faults(),
        steps_per_epoch=len(loader),
        precision=run.precision,
        micro_batch=pick_micro_batch(run),
        seed=opts.seed,
        frozen=run.frozen,
    )
    if run.resumed:
        trainer.load_state_dict(run.resumed)
    return trainer


def clips_per_s_at_peak(run: Run) -> float | None:
    """How many clips the devices could train on at their peak; None where that is not known."""
    if run.device.type != "cuda":
        return None
    peak = flops.peak_flops(run.device, run.precision)
    if peak is None:
        return None
    one_clip = (1, *run.clip.network_input())
    devices = distributed.world_size()
    if isinstance(run.classifier, nn.DataParallel):
        devices = torch.cuda.device_count()
    # the backward pass multiplies twice as much as the forward pass
    return devices * peak / (3 * flops.forward_flops(run.model, one_clip))


def pick_micro_batch(run: Run) -> int:
    """How many clips go through the network at once, in each process."""
    opts = run.opts
    asked, most = opts.micro_batch, share_size(opts)
    if asked != "auto":
        return min(asked or most, most)
    if run.device.type != "cuda":
        return most
    mixup = opts.mixup > 0
    channels, frames, height, width = run.clip.network_input()
    # a resumed run keeps its own, and with it the statistics of batch norm
    found = micro_batch.largest_micro_batch(
        distributed.unwrapped(run.classifier),
        (frames, height, width, channels),
        min(run.resumed["micro_batch"], most) if run.resumed else most,
        run.device,
        batch_size=opts.batch_size if mixup else most,  # a partner may be in another share
        mixup=mixup,
        num_copies={"sgd": 1, "adamw": 2}[opts.optimizer] + (opts.ema > 0),
    )
    return -distributed.highest(-found)


class Saver:
    """Writes the checkpoints of a run, none that is of no use.

    All processes of a run save together, and the main one writes.

    Args:
        minutes: how old the last one may become; 0: any age.
        steps: how many steps may lie between two; 0: any number.
    """

    def __init__(self, run: Run, trainer: Trainer, minutes: float, steps: int):
        self.run, self.trainer = run, trainer
        self.minutes, self.steps = minutes, steps
        self.saved_at = time.monotonic()

    def save_if_due(self) -> None:
        old = self.minutes > 0 and time.monotonic() - self.saved_at > 60 * self.minutes
        if distributed.highest(old) or (self.steps and self.trainer.step % self.steps == 0):
            self.save("last.pth")

    def save(self, name: str, chosen_on: str | None = None) -> None:
        """Raises UserError if it cannot be written, NonFiniteLoss if it would be of no use."""
        self.trainer.check_finite()
        state = self.state(chosen_on)
        if distributed.is_main():
            checkpoint.save(state, self.run.folder / name)
        self.saved_at = time.monotonic()

    def state(self, chosen_on: str | None = None) -> dict:
        """`chosen_on`: the list whose accuracy decided for these weights."""
        opts = self.run.opts
        if opts.schedule == "plateau":
            chosen_on = self.run.chosen_on  # its loss decided over the learning rate
        return self.trainer.state_dict() | {
            "arch": opts.arch,
            "arch_args": self.run.arch_args,
            "class_names": self.run.lists.class_names,
            "preprocessing": self.run.preprocessing,
            "precision": self.run.precision,
            "chosen_on": chosen_on,
        }


@contextlib.contextmanager
def weights_to_evaluate(run: Run, trainer: Trainer, loader: Loader) -> Iterator[None]:
    """Inside, the network is what validation sees: averaged weights, batch norm measured anew."""
    with trainer.ema.applied() if trainer.ema else contextlib.nullcontext():
        if run.opts.precise_bn:
            batches = loader.epoch(trainer.epoch)
            measure_norms(
                run.classifier,
                distributed.sharing_faults(batches, loader.new_faults()),
                run.opts.precise_bn,
                trainer.micro_batch,
                run.device,
                run.frozen,
            )
        distributed.share_buffers(run.model)
        yield


def print_plan(run: Run) -> int:
    """A few steps, and what the whole run would take; nothing is written."""
    opts, loader = run.opts, loader_of(run)
    trainer = build_trainer(run, loader)
    for line in in_words(run, trainer, len(loader)):
        log.info(line)
    steps_left = opts.epochs * len(loader) - trainer.step
    metrics = plan.measure(trainer, loader)
    hours = plan.hours(metrics, steps_left, opts.epochs * len(run.validation))
    log.info(
        f"plan: about {hours:.2g} hours for {steps_left} steps and the validations between them; "
        f"{metrics['clips_per_s']:.1f} clips/s, {metrics['memory_gb']:.1f} GiB, "
        f"{plan.bottleneck(metrics)}"
    )
    gpu = run.device.type == "cuda"
    for line in plan.suggestions(
        metrics,
        workers=opts.workers,
        cores=os.cpu_count(),
        precision=run.precision,
        memory_limit_gb=torch.cuda.mem_get_info(run.device)[1] / 2**30 if gpu else None,
        whole_batch=trainer.micro_batch == share_size(opts),
    ):
        log.info(f"try {line}")
    return 0


def score(
    run: Run,
    videos: Sequence[Video],
    views: Views,
    desc: str,
    check: Callable[[], None],
    average: str = "scores",
    full_crop: bool = False,
    on_batch: Callable[..., None] = lambda *batch: None,
) -> tuple[torch.Tensor, torch.Tensor, float, set[int]]:
    """What evaluator.score_videos says of `videos`, seen in `views`; which were left out."""
    loader = view_loader_of(run, videos, views, full_crop)
    faults = loader.new_faults()
    batches = distributed.sharing_faults(loader.epoch(), faults)
    how = {"average": average, "view_batch": run.opts.view_batch or clips_at_once(run.opts)}
    scored = evaluator.score_videos(
        run.classifier,
        batches,
        run.device,
        desc,
        check,
        on_batch=on_batch,
        total=len(loader),
        **how,
    )
    return *scored, set(faults.found) if run.opts.on_bad_frame == "skip" else set()


def view_loader_of(
    run: Run, videos: Sequence[Video], views: Views, full_crop: bool = False
) -> Loader:
    """The loader of `videos`, the same one each time, so that its processes start only once."""
    key = id(videos), views, full_crop
    if key not in run.view_loaders:
        side = run.preprocessing["short_side"]
        crop_size = side if full_crop else run.clip.crop_size
        options = {name: getattr(run.opts, name) for name in LOADER_OPTIONS}
        run.view_loaders[key] = view_loader(
            videos,
            replace(run.clip, short_side=(side, side), crop_size=crop_size),
            num_clips=views.clips,
            num_crops=views.crops,
            shard=(distributed.rank(), distributed.world_size()),
            **options | {"batch_size": run.opts.view_batch or clips_at_once(run.opts)},
        )
    return run.view_loaders[key]


def report(run: Run, of_weights: str, check: Callable[[], None]) -> None:
    """Evaluates the test list, writes the results and prints them with their protocol."""
    videos, opts = run.lists.test, run.opts
    views, average, full_crop = opts.views, opts.average, opts.full_crop
    how = average, full_crop
    scores, labels, _, skipped = score(run, videos, views, "evaluate", check, *how)
    if not distributed.is_main():
        return
    words = evaluator.protocol_in_words(views, run.preprocessing, average, full_crop)
    protocol = f"{words}; {opts.dataset} split {opts.split}; {of_weights}"
    result = evaluator.result_of(scores, labels, protocol, average, len(skipped))
    names = [video.path for i, video in enumerate(videos) if i not in skipped]
    evaluator.write_results(run.folder, result, scores, labels, names, run.lists.class_names)
    log.info(evaluator.describe(result))


def probe(run: Run, of_weights: str, check: Callable[[], None]) -> None:
    """Evaluates the test list with the frames of each clip in other orders, too."""
    if run.clip.modality == "flow":
        raise UserError(
            "--probe-time is for frames: optical flow played backwards is not that of the reversed "
            "video"
        )
    opts, scores = run.opts, {}
    for order in ORDERS:
        ordered = replace(run, clip=OrderedClips(**vars(run.clip), order=order), view_loaders={})
        how = opts.average, opts.full_crop
        scores[order], labels, *_ = score(ordered, run.lists.test, opts.views, order, check, *how)
    words = evaluator.protocol_in_words(opts.views, run.preprocessing, *how)
    protocol = f"{words}; {opts.dataset} split {opts.split}; {of_weights}"
    result = probe_time.result_of(scores, labels, run.lists.class_names, protocol)
    log.info(probe_time.table(result))
    log.info(protocol)
    log.info(f"written: {', '.join(map(str, probe_time.write(run.folder, result)))}")


def start_run_folder(folder: Path, opts: argparse.Namespace) -> None:
    """Makes the folder and writes the options there; from here on log.txt keeps the run's lines."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(opts).items() if name in opts.sources}
    content = json.dumps(options, indent=1, default=str) + "\n"
    checkpoint.write_whole(folder / "options.json", content.encode())
    loggers.set_up_console(folder)


def in_words(run: Run, trainer: Trainer, num_steps: int) -> list[str]:
    """What this run is, for its first lines."""
    opts, lists = run.opts, run.lists
    million = sum(p.numel() for p in run.model.parameters()) / 1e6
    lines = [
        f"{opts.arch}: {million:.2f} M parameters, {opts.pretrained or 'from scratch'}; "
        f"{opts.dataset}: {len(lists.train)} training and {len(lists.test)} test videos in "
        f"{len(lists.class_names)} classes; {opts.epochs} epochs of {num_steps} steps of "
        f"{opts.batch_size} clips on {run.device.type} in {run.precision}"
    ]
    if distributed.world_size() > 1:
        norm = "of all" if opts.sync_bn else "of its own; those of the first one are saved"
        lines.append(
            f"{distributed.world_size()} processes, each with {share_size(opts)} of the clips at "
            f"most and batch norm's statistics {norm}"
        )
    if opts.val_groups:
        lines.append(f"validation: {len(run.validation)} videos, {run.chosen_on}")
    if "scaled" in opts.sources["lr"]:
        lines.append(
            f"learning rate: {opts.lr:g} for {opts.batch_size} clips ({opts.sources['lr']})"
        )
    if trainer.micro_batch < share_size(opts):
        lines.append(
            f"micro-batches of {trainer.micro_batch} clips at most: gradients are those of "
            f"{opts.batch_size}, batch norm's statistics those of {trainer.micro_batch}"
        )
    if run.frozen:
        count = sum(p.numel() for p in trainer.parameters) / 1e6
        lines.append(f"frozen: {million - count:.2f} M parameters keep their values")
    if opts.expected:
        lines.append(f"to expect: {opts.expected}")
    return lines


def resumed_in_words(run: Run, num_steps: int) -> list[str]:
    """Where a resumed run stands, and what is not as it was."""
    resumed, opts = run.resumed, run.opts
    if not resumed:
        return []
    done = resumed["step"] - resumed["epoch"] * num_steps
    lines = [f"resumed after epoch {resumed['epoch']}"]
    if done > 0:
        lines[0] = f"resumed at step {done} of {num_steps} of epoch {resumed['epoch'] + 1}"
    elif resumed["epoch"] >= opts.epochs:
        lines[0] = f"all {opts.epochs} epochs of this run are done; --epochs N goes on"
    lines += [
        f"from here on {name} is {new}, not {old}" for name, (old, new) in opts.changed.items()
    ]
    if resumed["precision"] != run.precision:
        lines.append(f"from here on in {run.precision}, not in {resumed['precision']}")
    return lines


def epoch_in_words(epoch: int, epochs: int, metrics: dict, hours_left: float) -> str:
    waiting, copying = (100 * metrics[f"time/{n}"] / metrics["time/step"] for n in ("data", "copy"))
    return (
        f"epoch {epoch}/{epochs}: train loss {metrics['train/loss']:.3f} top-1 "
        f"{metrics['train/top1']:.1f} %, "
        f"validation loss {metrics['val/loss']:.3f} top-1 {metrics['val/top1']:.1f} % (one center "
        f"clip a video); "
        f"{metrics['clips_per_s']:.1f} clips/s, {waiting:.0f} % of the time waiting for data, "
        + (f"{copying:.0f} % copying, " if copying >= 1 else "")
        + (f"{metrics['utilization']:.0f} % of the peak, " if "utilization" in metrics else "")
        + f"{metrics['memory_gb']:.1f} GiB"
        + (f", {duration(hours_left)} left" if epoch < epochs else "")
    )


def duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"


def weights_in_words(state: dict) -> str:
    averaged = "averaged " if state["ema"] else ""
    if state["chosen_on"]:
        return (
            f"{averaged}weights of epoch {state['epoch']}, chosen for their accuracy on "
            f"{state['chosen_on']}"
        )
    return (
        f"{averaged}weights after epoch {state['epoch']}, chosen without looking at the test videos"
    )


def message_of(error: Exception) -> str | None:
    """The sentence for a failure that has one."""
    if isinstance(error, UserError):
        # one raised in a loader process arrives with that process's traceback before it
        return str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()
    if distributed.lost_another(error):
        return (
            "another process of this run has ended; torchrun --max-restarts starts all again, and "
            "--resume auto goes on from the last checkpoint"
        )
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return (
            "batch norm cannot train on one clip at a time that is as small as this; take a larger "
            "--batch-size, --micro-batch, --clip-len or --crop-size"
        )
    if isinstance(error, OSError):  # a full disk, a file that may not be read
        return str(error)
    return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the second one: at once
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not distributed.first_to_fail():
            sys.exit(1)  # another process has said why
        message = message_of(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")
