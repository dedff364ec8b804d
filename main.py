"""Train or evaluate a video classifier.

python main.py --arch i3d --dataset demo                          # writes its own data: try this
first python main.py --arch i3d --dataset ucf101                        # from scratch
python main.py --arch i3d --dataset ucf101 --pretrained i3d_rgb_piergiaj
python main.py --resume saved_model/i3d_ucf101_1/last.pth         # go on
python main.py --resume saved_model/i3d_ucf101_1/last.pth --evaluate --views 10x3
"""

import argparse
import json
import logging
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from opts import parse_opts

if __name__ == "__main__":
    parse_opts()  # --help and a wrong option are answered before torch takes its seconds to import

import torch

from config import UserError
from models import build_model, weights
from pt_dataset.clip_dataset import ClipShape, VideoLists, read_dataset, train_loader, view_loader
from utils import checkpoint, evaluator, loggers
from utils.normalize import ClipClassifier, Normalize
from utils.precision import choose_precision
from utils.schedule import lr_factor
from utils.trainer import NonFiniteLoss, train_one_epoch

RUNS = Path("saved_model")  # below the working folder
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
log = logging.getLogger("video")


def main(argv: list[str] | None = None) -> int:
    """One run; returns the exit status.

    Raises:
        UserError: something that the user can mend; the caller prints it.
    """
    opts = parse_opts(argv)
    loggers.set_up_console()
    resumed = checkpoint.load(Path(opts.resume)) if opts.resume else None
    if resumed and resumed["arch"] != opts.arch:
        raise UserError(f"{opts.resume} is a checkpoint of {resumed['arch']}, not of {opts.arch}")
    run_dir = RUNS / opts.name if opts.name else Path(opts.resume).parent
    if run_dir.exists() and not opts.resume:
        raise UserError(
            f"the run folder {run_dir} exists; go on with --resume {run_dir / 'last.pth'} or "
            f"choose another --name"
        )
    device = pick_device(opts.device)
    torch.manual_seed(opts.seed)

    # data
    lists = read_dataset(opts.dataset, opts.data_root, opts.split)
    if lists.num_remapped:
        log.info(
            f"labels: {lists.num_remapped} entries disagreed with classes.txt and follow their "
            f"class name now"
        )
    if resumed and resumed["class_names"] != lists.class_names:
        raise UserError(
            f"{opts.resume} was trained on other classes than those of "
            f"{lists.folder / 'classes.txt'}"
        )
    entry = weights.find(opts.pretrained, opts.arch) if opts.pretrained and not resumed else None
    preprocessing = preprocessing_of(opts, entry, resumed)
    clip = ClipShape(
        preprocessing["clip_len"],
        preprocessing["stride"],
        opts.short_side,
        preprocessing["crop_size"],
    )

    # model
    arch_args = {"dropout": opts.dropout, "bn_momentum": opts.bn_momentum}
    if resumed:
        arch_args = resumed["arch_args"] | {
            name: value for name, value in arch_args.items() if name in opts.given
        }
    start = {"weights": opts.pretrained, "weights_file": opts.pretrained_file} if entry else {}
    model = build_model(opts.arch, len(lists.class_names), **start, **arch_args)
    if resumed:
        weights.load_exactly(model, resumed["model"])
    clip_shape = (opts.batch_size, 3, clip.clip_len, clip.crop_size, clip.crop_size)
    precision = choose_precision(opts.precision, device, model, clip_shape)
    normalize = Normalize(preprocessing["mean"], preprocessing["std"], opts.channels_last)
    classifier = ClipClassifier(model, normalize, precision).to(device)
    if device == torch.device("cuda") and torch.cuda.device_count() > 1:
        classifier = torch.nn.DataParallel(
            classifier
        )  # `model` stays the plain network: no `module.` in saved keys

    def evaluate(views: str, desc: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        num_clips, num_crops = map(int, views.split("x"))
        shape = replace(clip, short_side=(preprocessing["short_side"],) * 2)
        counts = {"num_clips": num_clips, "num_crops": num_crops}
        loader = view_loader(
            lists.test, shape, **counts, batch_size=opts.batch_size, workers=opts.workers
        )
        return evaluator.score_videos(classifier, loader, device, desc)

    def report(folder: Path, of_weights: str) -> None:
        scores, labels, _ = evaluate(opts.views, "evaluate")
        how = protocol_in_words(opts.views, preprocessing)
        protocol = f"{how}; {opts.dataset} split {opts.split}; {of_weights}"
        result = evaluator.result_of(scores, labels, protocol)
        evaluator.write_results(
            folder, result, scores, labels, [v.path for v in lists.test], lists.class_names
        )
        log.info(evaluator.describe(result))

    if opts.evaluate:
        report(Path(opts.resume).parent, weights_in_words(resumed))
        log.info(f"scores and predictions: {Path(opts.resume).parent}")
        return 0

    # optimization
    loader = train_loader(
        lists,
        clip,
        batch_size=opts.batch_size,
        flip_prob=opts.flip_prob,
        seed=opts.seed,
        workers=opts.workers,
    )
    optimizer = build_optimizer(model, opts)
    first_epoch = resumed["epoch"] if resumed else 0
    if resumed:
        resume_optimizer(optimizer, opts, resumed, first_epoch * len(loader))
    factor = partial(
        lr_factor,
        steps_per_epoch=len(loader),
        epochs=opts.epochs,
        schedule=opts.schedule,
        lr_steps=opts.lr_steps,
        warmup_epochs=opts.warmup_epochs,
    )
    # the schedule is a function of the step; last_epoch is torch's name for the step before the
    # next one
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, factor, last_epoch=first_epoch * len(loader) - 1
    )

    # the run folder comes last: a run that could not start leaves none behind
    start_run_folder(run_dir, opts)
    log.info(in_words(opts, model, lists, loader, device, precision))
    if resumed:
        log.info(position_in_words(opts, resumed, len(loader)))
    logger = loggers.build(
        run_dir,
        first_epoch * len(loader),
        None if opts.no_visdom else opts.visdom_server,
        opts.visdom_port,
    )
    best_top1 = max(
        (m["val/top1"] for m in loggers.read_lines(run_dir / "metrics.jsonl")), default=-1.0
    )

    def state(epoch: int) -> dict:
        return {
            "arch": opts.arch,
            "arch_args": arch_args,
            "class_names": lists.class_names,
            "preprocessing": preprocessing,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "scaler": None,
            "rng": checkpoint.rng_state(),
            "epoch": epoch,  # completed
            "step": scheduler.last_epoch,
            "chosen_on": None,  # the list whose accuracy decided for these weights
        }

    def log_steps(metrics: dict, step: int) -> None:
        logger.log_steps(
            metrics | {"step": epoch * len(loader) + step, "epoch": epoch + step / len(loader)}
        )

    epoch = first_epoch
    try:
        for epoch in range(first_epoch, opts.epochs):
            metrics = train_one_epoch(
                classifier,
                loader,
                optimizer,
                scheduler,
                epoch=epoch,
                device=device,
                log_every=opts.log_every,
                on_log=log_steps,
            )
            metrics |= evaluator.validation_metrics(*evaluate("1x1", f"validate {epoch + 1}"))
            log.info(epoch_in_words(epoch + 1, opts.epochs, metrics))
            logger.log_epoch(metrics | {"step": scheduler.last_epoch, "epoch": epoch + 1})
            checkpoint.save(state(epoch + 1), run_dir / "last.pth")
            if metrics["val/top1"] > best_top1:
                best_top1 = metrics["val/top1"]
                checkpoint.save(
                    state(epoch + 1) | {"chosen_on": str(lists.test_list)}, run_dir / "best.pth"
                )
        report(
            run_dir, weights_in_words({"epoch": max(opts.epochs, first_epoch), "chosen_on": None})
        )
        log.info(f"checkpoint: {run_dir / 'last.pth'}; curves: {run_dir / 'curves.png'}")
    except KeyboardInterrupt:
        checkpoint.save(state(epoch), run_dir / "last.pth")
        log.info(
            f"stopped by Ctrl-C in epoch {epoch + 1}; go on with --resume {run_dir / 'last.pth'}"
        )
        return INTERRUPTED
    except NonFiniteLoss as error:
        good = run_dir / "last.pth"
        advice = (
            f"the last good checkpoint is {good}" if good.exists() else "no epoch was completed"
        )
        raise UserError(f"{error}; {advice}; try a lower --lr or --precision fp32") from None
    finally:
        logger.close()
    return 0


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
    """Everything between a file and the network; what a checkpoint was trained with comes before
    the recipe.
    """
    clip = {name: getattr(opts, name) for name in ("clip_len", "stride", "crop_size")}
    clip["short_side"] = opts.short_side[0]
    if resumed:
        return resumed["preprocessing"] | {
            name: value for name, value in clip.items() if name in opts.given
        }
    mean, std = (entry.mean, entry.std) if entry else (opts.mean, opts.std)
    if len(mean) != 3:
        raise UserError(
            f"the weights {opts.pretrained} are for optical flow, and the lists name RGB frames"
        )
    if entry and (tuple(mean), tuple(std)) != (tuple(opts.mean), tuple(opts.std)):
        log.info(
            f"preprocessing: mean {mean} and std {std}, with which {opts.pretrained} was trained"
        )
    return clip | {
        "channel_order": "RGB",
        "value_range": [0.0, 1.0],
        "mean": list(mean),
        "std": list(std),
        "resize": "short_side",
        "interpolation": "bilinear",
        "antialias": True,
        "fps": None,
    }


def build_optimizer(model: torch.nn.Module, opts: argparse.Namespace) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if opts.optimizer == "adamw":
        return torch.optim.AdamW(parameters, opts.lr, weight_decay=opts.weight_decay)
    return torch.optim.SGD(parameters, opts.lr, opts.momentum, weight_decay=opts.weight_decay)


def resume_optimizer(
    optimizer: torch.optim.Optimizer, opts: argparse.Namespace, resumed: dict, step: int
) -> None:
    """Optimizer and generators as the checkpoint left them; a typed --lr or --weight-decay counts
    from here on.
    """
    try:
        optimizer.load_state_dict(resumed["optimizer"])
    except ValueError as error:
        raise UserError(f"{opts.resume} was trained with another optimizer: {error}") from None
    for group in optimizer.param_groups:
        group["initial_lr"] = opts.lr
        group["weight_decay"] = opts.weight_decay
    checkpoint.set_rng_state(resumed["rng"])


def start_run_folder(run_dir: Path, opts: argparse.Namespace) -> None:
    """Makes the folder and writes what the run was asked for; from here on log.txt keeps its
    lines.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(opts).items() if name != "given"}
    (run_dir / "options.json").write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
    loggers.set_up_console(run_dir)


def in_words(opts, model, lists: VideoLists, loader, device: torch.device, precision: str) -> str:
    million = sum(p.numel() for p in model.parameters()) / 1e6
    return (
        f"{opts.arch}: {million:.2f} M parameters, {opts.pretrained or 'from scratch'}; "
        f"{opts.dataset}: "
        f"{len(lists.train)} training and {len(lists.test)} test videos in "
        f"{len(lists.class_names)} classes; "
        f"{opts.epochs} epochs of {len(loader)} steps of {opts.batch_size} clips on {device.type} "
        f"in {precision}"
    )


def position_in_words(opts, resumed: dict, steps_per_epoch: int) -> str:
    cut = resumed["step"] - resumed["epoch"] * steps_per_epoch
    if cut > 0:
        epoch = resumed["epoch"] + 1
        return f"resumed: epoch {epoch} was cut at step {cut} of {steps_per_epoch} and starts again"
    if resumed["epoch"] >= opts.epochs:
        return f"all {opts.epochs} epochs of this run are done; --epochs N goes on"
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


def protocol_in_words(views: str, preprocessing: dict) -> str:
    clips, crops = views.split("x")
    return (
        "video accuracy, softmax averaged over "
        f"{clips} evenly spaced clips x {crops} crop{'s' if crops != '1' else ''} of "
        f"{preprocessing['clip_len']} frames "
        f"(stride {preprocessing['stride']}), {preprocessing['crop_size']} px out of short side "
        f"{preprocessing['short_side']}"
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
        sys.exit("error: " + str(error).rsplit("UserError: ", 1)[-1].strip())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
