"""Train or evaluate a video classifier.

python main.py --arch i3d --dataset demo                    # writes its own data: try this first
python main.py --arch i3d --dataset ucf101                  # from scratch
python main.py --arch i3d --dataset ucf101 --pretrained i3d_rgb_piergiaj
python main.py --resume saved_model/i3d_ucf101_1/last.pth   # go on
python main.py --resume saved_model/i3d_ucf101_1/last.pth --evaluate --views 10x3
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from opts import parse_opts

if __name__ == "__main__":
    parse_opts()  # --help and a wrong option are answered before torch takes its seconds to import

import torch
from torch import nn

from config import ARCHS, Preprocessing, UserError
from models import build_model, weights
from pt_dataset.clip_dataset import (
    ClipShape,
    VideoLists,
    check_clips,
    read_dataset,
    train_loader,
    view_loader,
)
from utils import checkpoint, evaluator, loggers
from utils.interrupt import GracefulStop
from utils.mistakes import Mistakes
from utils.normalize import ClipClassifier, Normalize
from utils.precision import choose_precision
from utils.schedule import lr_factor
from utils.trainer import NonFiniteLoss, train_one_epoch

RUNS = Path("saved_model")  # below the working folder
# part of the preprocessing
CLIP_OPTIONS = ("clip_len", "stride", "snippet_len", "target_fps", "modality", "crop_size")
AUGMENTATION = ("crop", "crop_area", "crop_ratio", "crop_scales", "color_jitter")
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
log = logging.getLogger("video")


@dataclass
class Run:
    """What training and evaluation share."""

    opts: argparse.Namespace
    folder: Path
    device: torch.device
    resumed: dict | None  # the checkpoint of --resume
    lists: VideoLists
    preprocessing: dict
    clip: ClipShape
    arch_args: dict
    model: nn.Module  # the plain network: its keys are the saved ones
    classifier: nn.Module  # from uint8 clips, wrapped for the devices
    precision: str


def main(argv: list[str] | None = None) -> int:
    """One run; returns the exit status.

    Raises:
        UserError: something that the user can mend.
    """
    opts = parse_opts(argv)
    if opts.list_weights:
        print(weights.table())
        return 0
    run = set_up(opts)
    with GracefulStop() as stop:
        if not run.opts.evaluate:
            return train(run, stop)
        report(run, weights_in_words(run.resumed), stop.check)
        log.info(f"scores and predictions: {run.folder}")
        return 0


def set_up(opts: argparse.Namespace) -> Run:
    """Everything that can fail before the first step, in an order that leaves nothing behind."""
    loggers.set_up_console()
    loggers.check_installed(opts.logger)
    resumed = checkpoint.load(Path(opts.resume)) if opts.resume else None
    if resumed and resumed["arch"] != opts.arch:
        raise UserError(f"{opts.resume} is a checkpoint of {resumed['arch']}, not of {opts.arch}")
    folder = RUNS / opts.name if opts.name else Path(opts.resume).parent
    if folder.exists() and not resumed:
        raise UserError(
            f"the run folder {folder} exists; go on with --resume {folder / 'last.pth'}, "
            "or choose another --name"
        )
    device = pick_device(opts.device)
    torch.manual_seed(opts.seed)

    # data
    lists = read_dataset(opts.dataset, opts.data_root, opts.split)
    if lists.num_remapped:
        log.info(
            f"labels: {lists.num_remapped} entries disagreed with classes.txt and now follow it"
        )
    if resumed and resumed["class_names"] != lists.class_names:
        raise UserError(
            f"{opts.resume} was trained on other classes than those of {lists.folder}/classes.txt"
        )
    entry = None
    if opts.pretrained and not resumed:
        entry = weights.find(opts.pretrained, opts.arch, opts.arch_args)
    preprocessing = preprocessing_of(opts, entry, resumed)
    clip = ClipShape(
        **{name: preprocessing[name] for name in (*CLIP_OPTIONS, "resize", "antialias")},
        **{name: getattr(opts, name) for name in AUGMENTATION},
        short_side=short_side_range(opts, preprocessing),
    )
    check_clips(lists, clip, num_crops=split_views(opts.views)[1])

    # model
    arch_args = {"dropout": opts.dropout, "bn_momentum": opts.bn_momentum} | opts.arch_args
    arch_args |= ARCHS[opts.arch].modalities[opts.modality]
    start = {"weights": opts.pretrained, "weights_file": opts.pretrained_file} if entry else {}
    if entry or resumed:  # what weights were trained with comes before the recipe
        typed = {name: value for name, value in arch_args.items() if name in opts.given}
        arch_args |= (resumed["arch_args"] if resumed else entry.arch_args) | typed
    model = build_model(opts.arch, len(lists.class_names), **start, **arch_args)
    if resumed:
        weights.load_exactly(model, resumed["model"])
    batch_shape = (opts.batch_size, *clip.network_input())
    precision = choose_precision(opts.precision, device, model, batch_shape)
    pixels = (preprocessing[name] for name in ("mean", "std", "value_range", "channel_order"))
    normalize = Normalize(*pixels, opts.channels_last)
    classifier = ClipClassifier(model, normalize, precision).to(device)
    if device == torch.device("cuda") and torch.cuda.device_count() > 1:
        classifier = nn.DataParallel(classifier)
    return Run(
        opts=opts,
        folder=folder,
        device=device,
        resumed=resumed,
        lists=lists,
        preprocessing=preprocessing,
        clip=clip,
        arch_args=arch_args,
        model=model,
        classifier=classifier,
        precision=precision,
    )


def train(run: Run, stop: GracefulStop) -> int:
    """All epochs that are left, each with its validation, then the evaluation of the end."""
    opts, lists, folder = run.opts, run.lists, run.folder
    loader = train_loader(
        lists,
        run.clip,
        batch_size=opts.batch_size,
        flip_prob=opts.flip_prob,
        seed=opts.seed,
        workers=opts.workers,
    )
    optimizer = build_optimizer(run.model, opts)
    completed = run.resumed["epoch"] if run.resumed else 0
    if run.resumed:
        resume_optimizer(optimizer, opts, run.resumed)
    step = completed * len(loader)
    factor = partial(
        lr_factor,
        steps_per_epoch=len(loader),
        epochs=opts.epochs,
        schedule=opts.schedule,
        lr_steps=opts.lr_steps,
        warmup_epochs=opts.warmup_epochs,
    )
    # the schedule is a function of the step; last_epoch is torch's name for the step before this
    # one
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor, last_epoch=step - 1)

    start_run_folder(folder, opts)
    log.info(in_words(run, len(loader)))
    if run.resumed:
        log.info(position_in_words(run.resumed, opts.epochs, len(loader)))
    logger = loggers.build(
        folder,
        step,
        [name for name in opts.logger if name != "visdom" or not opts.no_visdom],
        server=opts.visdom_server,
        port=opts.visdom_port,
        env=opts.visdom_env,
    )
    best = max((m["val/top1"] for m in loggers.read_lines(folder / "metrics.jsonl")), default=-1)

    def save(name: str, **changes) -> None:
        state = {
            "arch": opts.arch,
            "arch_args": run.arch_args,
            "class_names": lists.class_names,
            "preprocessing": run.preprocessing,
            "model": run.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "scaler": None,
            "rng": checkpoint.rng_state(),
            "epoch": completed,
            "step": scheduler.last_epoch,
            "chosen_on": None,  # the list whose accuracy decided for these weights
        }
        checkpoint.save(state | changes, folder / name)

    def on_log(metrics: dict, epoch: float) -> None:
        logger.log_steps(metrics | {"step": scheduler.last_epoch, "epoch": epoch})

    try:
        for epoch in range(completed, opts.epochs):
            metrics = train_one_epoch(
                run.classifier,
                loader,
                optimizer,
                scheduler,
                epoch=epoch,
                device=run.device,
                log_every=opts.log_every,
                on_log=on_log,
                check=stop.check,
            )
            completed = epoch + 1
            mistakes = Mistakes(lists.class_names)
            scores = score(run, "1x1", f"validate {completed}", stop.check, mistakes.add)
            metrics |= evaluator.validation_metrics(*scores)
            log.info(epoch_in_words(completed, opts.epochs, metrics))
            metrics |= {"step": scheduler.last_epoch, "epoch": completed}
            logger.log_epoch(metrics, mistakes)
            save("last.pth")
            if metrics["val/top1"] > best:
                best = metrics["val/top1"]
                save("best.pth", chosen_on=str(lists.test_list))
        report(run, weights_in_words({"epoch": completed, "chosen_on": None}), stop.check)
        log.info(f"checkpoint: {folder / 'last.pth'}")
        for place in logger.places():
            log.info(place)
    except KeyboardInterrupt:
        save("last.pth")
        log.info(f"stopped by Ctrl-C; go on with --resume {folder / 'last.pth'}")
        return INTERRUPTED
    except NonFiniteLoss as error:
        good = folder / "last.pth"
        state = f"the last good checkpoint is {good}" if good.exists() else "no epoch was completed"
        raise UserError(f"{error}; {state}; try a lower --lr or --precision fp32") from None
    finally:
        logger.close()
    return 0


def score(
    run: Run,
    views: str,
    desc: str,
    check: Callable[[], None],
    on_batch: Callable[..., None] = lambda *batch: None,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """What evaluator.score_videos says of the test list, seen in `views` such as "10x3"."""
    num_clips, num_crops = split_views(views)
    loader = view_loader(
        run.lists.test,
        replace(run.clip, short_side=(run.preprocessing["short_side"],) * 2),
        num_clips=num_clips,
        num_crops=num_crops,
        batch_size=run.opts.batch_size,
        workers=run.opts.workers,
    )
    return evaluator.score_videos(run.classifier, loader, run.device, desc, check, on_batch)


def split_views(views: str) -> tuple[int | None, int]:
    """Clips (None: the whole video) and crops of `views` such as "10x3" or "allx1"."""
    clips, crops = views.split("x")
    return None if clips == "all" else int(clips), int(crops)


def report(run: Run, of_weights: str, check: Callable[[], None]) -> None:
    """Evaluates the test list, writes the results and prints them with their protocol."""
    scores, labels, _ = score(run, run.opts.views, "evaluate", check)
    protocol = (
        f"{evaluator.protocol_in_words(run.opts.views, run.preprocessing)}; "
        f"{run.opts.dataset} split {run.opts.split}; {of_weights}"
    )
    result = evaluator.result_of(scores, labels, protocol)
    names = [video.path for video in run.lists.test]
    evaluator.write_results(run.folder, result, scores, labels, names, run.lists.class_names)
    log.info(evaluator.describe(result))


def pick_device(name: str) -> torch.device:
    """The device of `--device`; "auto" is the GPUs if there are any."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def preprocessing_of(
    opts: argparse.Namespace, entry: weights.Weights | None, resumed: dict | None
) -> dict:
    """Everything between a file and the network; a checkpoint's own comes before the recipe's."""
    clip = {name: getattr(opts, name) for name in CLIP_OPTIONS} | {"resize": opts.resize}
    clip["short_side"] = opts.short_side[0]
    typed = {name: value for name, value in clip.items() if name in opts.given}
    recipe = Preprocessing(**clip, mean=opts.mean, std=opts.std)
    if not (entry or resumed):
        return asdict(recipe)
    theirs = Preprocessing(**resumed["preprocessing"]) if resumed else entry.preprocessing
    if theirs.modality != opts.modality:
        if resumed or not ARCHS[opts.arch].cross_modality:
            raise UserError(
                f"the weights {opts.resume if resumed else opts.pretrained} are for --modality "
                f"{theirs.modality}, not for {opts.modality}"
            )
        typed |= {name: clip[name] for name in ("modality", "clip_len", "snippet_len")}
    preprocessing = replace(theirs, **typed)
    if opts.modality == "flow" != theirs.modality:
        preprocessing = preprocessing.of_flow()
    if entry:
        for name, value in asdict(recipe).items():
            if getattr(preprocessing, name) != value:
                log.info(
                    f"preprocessing: {name} {getattr(preprocessing, name)}, as {opts.pretrained} "
                    f"was trained; the recipe would have {value}"
                )
    return asdict(preprocessing)


def short_side_range(opts: argparse.Namespace, preprocessing: dict) -> tuple[int, int]:
    """The short sides of training; a recipe's range holds only where it suits the weights'."""
    side = preprocessing["short_side"]
    return tuple(opts.short_side) if opts.short_side[0] == side else (side, side)


def build_optimizer(model: nn.Module, opts: argparse.Namespace) -> torch.optim.Optimizer:
    """The optimizer, with the multipliers that the network's paper gives to some parameters."""
    if hasattr(model, "parameter_groups"):
        groups = sorted(model.parameter_groups(), key=lambda group: group["lr_mult"] != 1)
    else:
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [{"params": trained, "lr_mult": 1, "decay_mult": 1}]
    for group in groups:
        group["lr"] = opts.lr * group["lr_mult"]
        group["weight_decay"] = opts.weight_decay * group["decay_mult"]
    if opts.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(groups, momentum=opts.momentum)


def resume_optimizer(
    optimizer: torch.optim.Optimizer, opts: argparse.Namespace, resumed: dict
) -> None:
    """Optimizer and generators as the checkpoint left them; --lr and --weight-decay count anew."""
    # torch loads the state of SGD into AdamW without a word
    if ("betas" in resumed["optimizer"]["param_groups"][0]) != ("betas" in optimizer.defaults):
        raise UserError(f"{opts.resume} was not trained with --optimizer {opts.optimizer}")
    optimizer.load_state_dict(resumed["optimizer"])
    for group in optimizer.param_groups:
        group["initial_lr"] = opts.lr * group["lr_mult"]
        group["weight_decay"] = opts.weight_decay * group["decay_mult"]
    checkpoint.set_rng_state(resumed["rng"])


def start_run_folder(folder: Path, opts: argparse.Namespace) -> None:
    """Makes the folder and writes the options there; from here on log.txt keeps the run's lines."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(opts).items() if name != "given"}
    (folder / "options.json").write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
    loggers.set_up_console(folder)


def in_words(run: Run, num_steps: int) -> str:
    opts, lists = run.opts, run.lists
    million = sum(p.numel() for p in run.model.parameters()) / 1e6
    return (
        f"{opts.arch}: {million:.2f} M parameters, {opts.pretrained or 'from scratch'}; "
        f"{opts.dataset}: {len(lists.train)} training and {len(lists.test)} test videos in "
        f"{len(lists.class_names)} classes; {opts.epochs} epochs of {num_steps} steps of "
        f"{opts.batch_size} clips on {run.device.type} in {run.precision}"
    )


def position_in_words(resumed: dict, epochs: int, num_steps: int) -> str:
    cut = resumed["step"] - resumed["epoch"] * num_steps
    if cut > 0:
        epoch = resumed["epoch"] + 1
        return f"resumed: epoch {epoch} was cut at step {cut} of {num_steps} and starts again"
    if resumed["epoch"] >= epochs:
        return f"all {epochs} epochs of this run are done; --epochs N goes on"
    return f"resumed after epoch {resumed['epoch']}"


def epoch_in_words(epoch: int, epochs: int, metrics: dict) -> str:
    waiting = 100 * metrics["time/data"] / metrics["time/step"]
    return (
        f"epoch {epoch}/{epochs}: train loss {metrics['train/loss']:.3f} top-1 "
        f"{metrics['train/top1']:.1f} %, "
        f"validation loss {metrics['val/loss']:.3f} top-1 {metrics['val/top1']:.1f} % (one center "
        f"clip a video); "
        f"{metrics['clips_per_s']:.1f} clips/s, {waiting:.0f} % of the time waiting for data"
    )


def weights_in_words(state: dict) -> str:
    if state["chosen_on"]:
        return (
            f"weights of epoch {state['epoch']}, chosen for their accuracy on {state['chosen_on']}"
        )
    return f"weights after epoch {state['epoch']}, chosen without looking at the test videos"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        # one raised in a loader process arrives with that process's traceback before it
        sys.exit("error: " + str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
