"""The command line: recipe < options of the resumed run < what is typed. Imports no torch."""

import argparse
import json
import os
from dataclasses import fields
from pathlib import Path

from config import (
    ARCHS,
    AVERAGES,
    CROPS,
    PROTOCOLS,
    RESIZES,
    RUNS,
    Evaluation,
    Recipe,
    Views,
    find_recipe,
    part,
    recipe_key,
)

DEFAULTS = {  # of the options that no recipe sets
    "arch": None,
    "dataset": None,
    "split": 1,
    "splits": (),  # a series of runs
    "val_groups": 0,
    "data_root": "videos_dataset",
    "name": None,
    "workers": None,  # one a CPU core, 8 at most
    "on_bad_frame": "stop",
    "max_bad_share": 0.01,
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "channels_last": True,
    "sync_bn": False,
    "micro_batch": None,  # the whole batch at once
    "checkpoint_activations": False,
    "compile": False,
    "checkpoint_minutes": 30.0,
    "checkpoint_steps": 0,
    "resume": None,
    "pretrained": None,
    "pretrained_file": None,
    "evaluate": False,
    "protocol": None,
    "view_batch": None,  # as many as in training
    "probe_time": False,
    "head_only": False,
    "head_lrs": (0.0003, 0.001, 0.003, 0.01),
    "list_weights": False,
    "print_config": False,
    "plan": False,
    "log_every": 10,
    "visdom_server": "127.0.0.1",
    "visdom_port": 8097,
    "visdom_env": None,  # the name of the run
    "no_visdom": False,
    "logger": ("visdom",),
}
# belong to one command, not to the run that it resumes
NOT_INHERITED = (
    "name",
    "splits",
    "protocol",  # its views, average and full_crop are
    "view_batch",
    "resume",
    "evaluate",
    "probe_time",
    "head_only",
    "head_lrs",
    "list_weights",
    "print_config",
    "plan",
    "device",
    "workers",
    "visdom_server",
    "visdom_port",
    "no_visdom",
)
# --predict, --extract-features and --export: a network as its file has it, no data set, no recipe
USE_DEFAULTS = {
    "predict": None,
    "extract_features": None,
    "export": None,
    "arch": None,
    "resume": None,
    "pretrained": None,
    "pretrained_file": None,
    "videos": None,
    "fps": None,
    "views": None,
    "sliding_window": None,
    "annotate": None,
    "out": ".",
    "window": None,
    "step": None,
    "batch_size": 8,
    "workers": None,
    "device": "auto",
    "precision": "auto",
    "list_weights": False,
}
USES = ("predict", "extract_features", "export")
ONLY_WITH = {  # the uses that these belong to
    "sliding_window": ("predict",),
    "annotate": ("predict",),
    "out": ("predict",),
    "videos": ("extract_features",),
    "window": ("extract_features",),
    "step": ("extract_features",),
    "fps": ("predict", "extract_features"),
    "views": ("predict",),
}
USE_CLIP_OPTIONS = ("clip_len", "stride", "target_fps", "resize", "short_side", "crop_size")
# what a run has done so far depends on these: a resumed one cannot have others
FIXED = ("dataset", "split", "val_groups", "pretrained", "seed", "batch_size", "optimizer")


def number(kind: type, low: float, high: float = float("inf")):
    """An argparse type: a number in [low, high]."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            limits = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{text} must be {limits}")
        return value

    parse.__name__ = kind.__name__  # argparse names it where `kind` itself fails
    return parse


def micro_batch(text: str) -> int | str:
    """An argparse type: "auto" or a number of clips."""
    return text if text == "auto" else number(int, 1)(text)


def views(text: str) -> Views:
    """An argparse type: CLIPSxCROPS, or CLIPS alone, where CLIPS may be "all"."""
    try:
        return Views.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py",
        usage=f"python main.py --arch {{{','.join(ARCHS)}}} --dataset NAME [options]",
        description="Train or evaluate a video classifier.",
        epilog="Options that are not given come from the recipe in config.py, "
        "or from the run that --resume continues.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--arch", choices=ARCHS, help="architecture")
    add(
        "--dataset",
        metavar="NAME",
        help="a folder of --data-root with lists in it; 'demo' writes itself",
    )
    add(
        "--split",
        type=number(int, 1, 99),
        metavar="N",
        help="which lists: trainlist0N.json, testlist0N.json (1)",
    )
    add(
        "--splits",
        type=number(int, 1, 99),
        nargs="+",
        metavar="N",
        help="a run for each, or with --evaluate the evaluation of each, and their mean",
    )
    add(
        "--val-groups",
        type=number(int, 0),
        metavar="N",
        help="hold out the last N groups of recordings of the training list and choose weights on "
        "them; 0: on the test list, which is said (0)",
    )
    add("--data-root", metavar="DIR", help="folder of the data sets (videos_dataset)")
    add("--name", help="folder of the run below saved_model (<arch>_<dataset>_<split>)")

    group = parser.add_argument_group("actions (training, unless one is given)")
    group.add_argument(
        "--evaluate", action="store_true", help="evaluate the checkpoint given with --resume"
    )
    group.add_argument(
        "--probe-time",
        action="store_true",
        help="with --evaluate: accuracy on reversed, shuffled and frozen clips, too",
    )
    group.add_argument(
        "--head-only",
        action="store_true",
        help="train heads on features of the frozen network of --pretrained or --resume, computed "
        "once",
    )
    group.add_argument(
        "--head-lrs",
        type=number(float, 0),
        nargs="+",
        metavar="LR",
        help="for --head-only: a head for each, and the best one is kept (0.0003 0.001 0.003 0.01)",
    )
    group.add_argument(
        "--resume",
        metavar="CHECKPOINT",
        help="last.pth or best.pth of a run, to go on or to evaluate; auto: go on with the run "
        "of this name, or start it",
    )

    group.add_argument("--list-weights", action="store_true", help="print the public weights")
    group.add_argument(
        "--print-config",
        action="store_true",
        help="print every option, its value and where that came from",
    )
    group.add_argument(
        "--plan",
        action="store_true",
        help="train 20 steps and print what the whole run would take; leaves nothing behind",
    )
    add_use_options(parser)

    group = parser.add_argument_group("start (from scratch, unless one is given)")
    group.add_argument(
        "--pretrained",
        metavar="WEIGHTS",
        help="public weights by name; downloaded into pretrained/",
    )
    group.add_argument(
        "--pretrained-file", metavar="FILE", help="where the file of --pretrained is already"
    )

    group = parser.add_argument_group(
        "clips and augmentation", "defaults depend on architecture, data set, start and modality"
    )
    add_clip_options(group)
    group = parser.add_argument_group(
        "recipe", "defaults depend on architecture, data set, start and modality"
    )
    group.add_argument("--dropout", type=number(float, 0, 1), metavar="P")
    group.add_argument(
        "--bn-momentum", type=number(float, 0, 1), help="weight of the newest batch in batch norm"
    )
    group.add_argument("--epochs", type=number(int, 1), metavar="N")
    group.add_argument(
        "--batch-size", type=number(int, 1), metavar="N", help="clips a step, over all devices"
    )
    group.add_argument("--optimizer", choices=("sgd", "adamw"))
    group.add_argument(
        "--lr",
        type=number(float, 0),
        help="learning rate for the batch size in use; the recipe's is scaled to it",
    )
    group.add_argument("--momentum", type=number(float, 0, 1), help="of SGD")
    group.add_argument("--nesterov", action=argparse.BooleanOptionalAction, help="of SGD")
    group.add_argument("--weight-decay", type=number(float, 0))
    group.add_argument(
        "--decay-norm",
        action=argparse.BooleanOptionalAction,
        help="weight decay on batch norm, too",
    )
    group.add_argument(
        "--clip-grad", type=number(float, 0), metavar="NORM", help="longest gradient; 0: any"
    )
    group.add_argument("--schedule", choices=("step", "cosine", "plateau"))
    group.add_argument(
        "--lr-steps",
        type=number(int, 1),
        nargs="*",
        metavar="EPOCH",
        help="a tenth of lr after each",
    )
    group.add_argument(
        "--plateau-patience",
        type=number(int, 1),
        metavar="EPOCHS",
        help="without a better validation loss before a tenth of lr",
    )
    group.add_argument("--warmup-epochs", type=number(float, 0), metavar="N")
    group.add_argument(
        "--ema",
        type=number(float, 0, 1),
        metavar="DECAY",
        help="evaluate weights averaged over the steps, such as 0.999; 0: the last weights",
    )
    group.add_argument("--label-smoothing", type=number(float, 0, 1), metavar="P")
    group.add_argument(
        "--mixup", type=number(float, 0), metavar="ALPHA", help="blend pairs of clips; 0: none"
    )
    group.add_argument(
        "--freeze", metavar="STAGE", help="train only what follows this stage of the network"
    )
    group.add_argument(
        "--freeze-bn", action=argparse.BooleanOptionalAction, help="batch norm stays as it starts"
    )
    group.add_argument(
        "--precise-bn",
        type=number(int, 0),
        metavar="BATCHES",
        help="measure batch norm anew on so many before each evaluation",
    )

    group = parser.add_argument_group(
        "evaluation at the end", "defaults are the recipe's; those given override --protocol"
    )
    group.add_argument(
        "--protocol", choices=PROTOCOLS, help="as a paper evaluates; clip: one center clip"
    )
    group.add_argument(
        "--views",
        type=views,
        metavar="CLIPSxCROPS",
        help="of each video: 1, 3 or 10 crops; all: the whole video as one clip",
    )
    group.add_argument("--average", choices=AVERAGES, help="of the views; scores: after softmax")
    group.add_argument(
        "--full-crop",
        action=argparse.BooleanOptionalAction,
        help="crops as large as the short side, not of --crop-size",
    )
    group.add_argument(
        "--view-batch",
        type=number(int, 1),
        metavar="N",
        help="views on the device at once, which changes no result (as in training)",
    )

    group = parser.add_argument_group("network", "defaults are those of the class")
    for name in dict.fromkeys(name for entry in ARCHS.values() for name in entry.options):
        add_arch_option(group, name)

    group = parser.add_argument_group("machine")
    group.add_argument("--device", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    group.add_argument(
        "--precision",
        choices=("auto", "fp32", "tf32", "bf16", "fp16"),
        help="auto: bf16 where it is fast and right",
    )
    group.add_argument(
        "--micro-batch",
        type=micro_batch,
        metavar="N",
        help="clips in the memory of a process at once, whose gradients add up to those of the "
        "batch; auto: as many as fit on the GPU",
    )
    group.add_argument(
        "--checkpoint-activations",
        action=argparse.BooleanOptionalAction,
        help="compute activations twice instead of keeping them: less memory, a third more time",
    )
    group.add_argument(
        "--sync-bn",
        action=argparse.BooleanOptionalAction,
        help="batch norm over the clips of all processes that torchrun starts; GPUs only",
    )
    group.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="compile the network first"
    )
    group.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        help="memory format (channels last)",
    )
    group.add_argument(
        "--workers",
        type=number(int, 0),
        metavar="N",
        help="loader processes, of each process (one a core, 8 at most)",
    )
    group.add_argument(
        "--on-bad-frame",
        choices=("stop", "nearest", "skip"),
        help="a frame that cannot be decoded ends the run (stop), is replaced by the nearest one "
        "that can be, or its video is left out",
    )
    group.add_argument(
        "--max-bad-share",
        type=number(float, 0, 1),
        metavar="SHARE",
        help="of the videos; with more bad ones the run ends in spite of --on-bad-frame (0.01)",
    )
    group.add_argument("--seed", type=number(int, 0), metavar="N", help="of everything random (0)")

    group = parser.add_argument_group("checkpoints (after each epoch, and when a run is stopped)")
    group.add_argument(
        "--checkpoint-minutes",
        type=number(float, 0),
        metavar="M",
        help="save inside an epoch when the last checkpoint is so old; 0: never (30)",
    )
    group.add_argument(
        "--checkpoint-steps",
        type=number(int, 0),
        metavar="N",
        help="save after every so many steps, too; 0: no (0)",
    )

    group = parser.add_argument_group("curves")
    group.add_argument(
        "--log-every", type=number(int, 1), metavar="STEPS", help="steps between two points (10)"
    )
    group.add_argument(
        "--visdom-server", metavar="HOST", help="(127.0.0.1, where one is started if none listens)"
    )
    group.add_argument("--visdom-port", type=number(int, 1, 65535), metavar="PORT", help="(8097)")
    group.add_argument("--visdom-env", metavar="NAME", help="of the page (the name of the run)")
    group.add_argument("--no-visdom", action="store_true", help="curves go to the run folder only")
    group.add_argument(
        "--logger",
        choices=("visdom", "tensorboard"),
        nargs="+",
        help="where the numbers go beside the run folder (visdom)",
    )
    return parser


def add_use_options(parser: argparse.ArgumentParser) -> None:
    """What a trained network is good for; all of it needs --resume, or --arch and --pretrained."""
    group = parser.add_argument_group(
        "use of a network, that of --resume, or of --arch and --pretrained",
        "classes and preprocessing come from its file; no data set is needed",
    )
    add = group.add_argument
    add(
        "--predict",
        nargs="+",
        metavar="PATH",
        help="name what happens in video files, folders of frames, zips, or folders of them",
    )
    add("--out", metavar="DIR", help="where predicted.json and .csv go (the working folder)")
    add(
        "--sliding-window",
        type=number(float, 0.01),
        metavar="SECONDS",
        help="predict each window of a long video, and draw timeline_NAME.png",
    )
    add("--annotate", metavar="OUT.mp4", help="write the predicted video with its labels burnt in")
    add(
        "--extract-features",
        metavar="OUT",
        help="write OUT/VIDEO.npz with the features before the head; goes on after a stop",
    )
    add(
        "--videos",
        nargs="+",
        metavar="PATH",
        help="for --extract-features: as of --predict, or lists (.json)",
    )
    add("--window", type=number(int, 1), metavar="FRAMES", help="of the video a feature (a clip)")
    add(
        "--step",
        type=number(int, 1),
        metavar="FRAMES",
        help="from one window to the next (--window)",
    )
    add(
        "--fps",
        type=number(float, 0.1),
        metavar="FPS",
        help="frames a second of folders of frames, which do not say it",
    )
    add(
        "--export",
        metavar="OUT.onnx|OUT.pt2",
        help="write the network for other software, after comparing what it says",
    )


def add_clip_options(group) -> None:
    """Which frames of a video a network sees, and how they are augmented."""
    add = group.add_argument
    known = dict.fromkeys(name for entry in ARCHS.values() for name in entry.modalities)
    add("--modality", choices=tuple(known), help="flow: lists with a 'flow_path'; rgbdiff: of tsn")
    add("--clip-len", type=number(int, 1), metavar="N", help="frames the network sees")
    add("--stride", type=number(int, 1), metavar="N", help="source frames between two of them")
    add(
        "--target-fps",
        type=number(float, 0.1),
        metavar="FPS",
        help="--stride counts frames at this rate, whatever that of a video (its own)",
    )
    add(
        "--snippet-len",
        type=number(int, 0),
        metavar="N",
        help="frames of each segment of the video; 0: consecutive clips",
    )
    add("--resize", choices=RESIZES, help="square: whatever the aspect ratio")
    add(
        "--short-side",
        type=number(int, 1),
        nargs="+",
        metavar="PX",
        help="frames are resized to it; two: a range; with other --crop than random in evaluation "
        "only",
    )
    add("--crop-size", type=number(int, 1), metavar="PX", help="what the network sees of a frame")
    add(
        "--crop",
        choices=CROPS,
        help="in training: at any place of the resized frame; any window, resized; one at 13 fixed "
        "places, resized",
    )
    share = number(float, 0.01, 1)
    two = {"nargs": 2, "metavar": ("LOW", "HIGH")}
    add("--crop-area", type=share, **two, help="--crop resized: share of the frame")
    add("--crop-ratio", type=number(float, 0.1, 10), **two, help="--crop resized: width / height")
    add(
        "--crop-scales",
        type=share,
        nargs="+",
        metavar="S",
        help="--crop corners: sides of the window as shares of the short side, in order",
    )
    add("--flip-prob", type=number(float, 0, 1), metavar="P", help="horizontal flips")
    add(
        "--color-jitter",
        type=number(float, 0, 1),
        nargs=4,
        metavar=("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE"),
        help="the most that each changes; hue in turns of the color wheel, 0.5 at most",
    )


def add_arch_option(group, name: str) -> None:
    """An option of one or more architectures: a switch, one of some values, or of a type."""
    flag = "--" + name.replace("_", "-")
    values = {arch: e.options[name] for arch, e in ARCHS.items() if name in e.options}
    first, of = next(iter(values.values())), "of " + ", ".join(values)
    if first == (False, True):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, help=of)
    elif isinstance(first, tuple):
        known = tuple(dict.fromkeys(value for one in values.values() for value in one))
        group.add_argument(flag, type=type(first[0]), choices=known, help=of)
    else:
        metavar = "N" if first is int else "NAME"
        group.add_argument(flag, type=first, metavar=metavar, help=of)


def parse_opts(argv: list[str] | None = None) -> argparse.Namespace:
    """All options of one run, and how they came about.

    Returns:
        The options, and beside them `given`, the names of those that were typed; `sources`, where
        each value came from; `changed`, the (old, new) of those that the resumed run had otherwise;
        `auto`, whether the run is to be started if there is none to resume.

    Raises:
        SystemExit: 2, after argparse's message, if the command line is wrong.
    """
    parser = build_parser()
    given = vars(parser.parse_args(argv))
    if given.keys() & {*USES, *ONLY_WITH} - {"views"}:
        return use_of(given, parser)
    try:
        check_splits(given)
        auto = find_resume(given)
        inherited = saved_options(given["resume"]) if "resume" in given else {}
    except ValueError as error:
        parser.error(str(error))
    if "name" in given:
        inherited.pop("visdom_env", None)  # the page of the run that this one branches off
    opts = DEFAULTS | inherited | given
    if opts["evaluate"] and not opts["resume"] and not opts["splits"]:
        parser.error("--evaluate needs --resume CHECKPOINT, or --splits")
    if opts["head_only"] and not (opts["resume"] or opts["pretrained"]):
        parser.error("--head-only needs a network: --pretrained WEIGHTS or --resume CHECKPOINT")
    if "head_lrs" in given and not opts["head_only"]:
        parser.error("--head-lrs goes with --head-only")
    if opts["probe_time"] and not opts["evaluate"]:
        parser.error("--probe-time goes with --evaluate")
    if opts["pretrained_file"] and not opts["pretrained"]:
        parser.error("--pretrained-file needs --pretrained, which says what the file is")
    if opts["list_weights"]:
        return argparse.Namespace(**opts, given=set(given))
    for name in ("arch", "dataset"):
        if not opts[name]:
            parser.error(
                f"--{name} is needed"
                + (f" (no options.json beside {opts['resume']})" if opts["resume"] else "")
            )
    if any(bad in opts["dataset"] for bad in ("/", "\\")) or opts["dataset"] in (".", ".."):
        parser.error(
            f"--dataset {opts['dataset']}: give the name of a folder in --data-root, not a path"
        )
    modality = (inherited | given).get("modality", "rgb")
    if modality not in ARCHS[opts["arch"]].modalities:
        known = ", ".join(ARCHS[opts["arch"]].modalities)
        parser.error(f"--modality {modality} is not for {opts['arch']}, but {known}")
    of_recipe = opts["arch"], opts["dataset"], start_of(opts["pretrained"])
    key, recipe = recipe_key(*of_recipe), find_recipe(*of_recipe, modality)
    opts = DEFAULTS | vars(recipe) | inherited | preset(given) | given
    sources = dict.fromkeys(opts, "default") | dict.fromkeys(vars(recipe), f"recipe {key}")
    sources |= dict.fromkeys(inherited, "resumed run")
    sources |= dict.fromkeys(preset(given), f"protocol {opts['protocol']}")
    sources |= dict.fromkeys(given, "command line")
    if sources["lr"].startswith("recipe") and opts["batch_size"] != recipe.batch_size:
        opts["lr"] = recipe.lr * opts["batch_size"] / recipe.batch_size
        sources["lr"] += f", {recipe.lr:g} for {recipe.batch_size} clips, scaled"
    typed = arch_args_of(opts["arch"], given, parser)
    opts["arch_args"] = recipe.arch_args | inherited.get("arch_args", {}) | typed
    if opts["name"] is None and (opts["head_only"] or not opts["resume"]):
        opts["name"] = default_name(opts)
    if opts["workers"] is None:
        opts["workers"] = default_workers()
    try:
        check(opts, recipe)
    except ValueError as error:
        parser.error(str(error))
    same = {name: opts[name] for name in inherited.keys() & given.keys()}
    changed = {
        name: (inherited[name], value)
        for name, value in same.items()
        if as_json(value) != as_json(inherited[name])  # which has no tuples
    }
    how = {"given": set(given), "sources": sources, "changed": changed, "auto": auto, "use": None}
    return argparse.Namespace(**opts, **how)


def use_of(given: dict, parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of --predict, --extract-features or --export."""
    asked = [name for name in USES if name in given]
    first = flag(asked[0]) if asked else ""
    if len(asked) > 1:
        parser.error(f"{first} and {flag(asked[1])} are two commands: give one of them")
    of_network = {name for entry in ARCHS.values() for name in entry.options}
    for name, uses in ONLY_WITH.items():
        if name in given and not set(uses) & set(asked):
            parser.error(f"{flag(name)} goes with {' or '.join(map(flag, uses))}")
    for name in given.keys() - USE_DEFAULTS.keys() - set(USE_CLIP_OPTIONS) - of_network:
        parser.error(f"{flag(name)} means nothing to {first}")
    if ("resume" in given) == ("pretrained" in given):
        parser.error(f"{first} needs --resume CHECKPOINT, or --arch and --pretrained")
    if "pretrained" in given and "arch" not in given:
        parser.error("--pretrained needs --arch, the architecture of the weights")
    if "extract_features" in given and "videos" not in given:
        parser.error("--extract-features needs --videos PATH: videos, folders of them, or lists")
    if "export" in given and not given["export"].endswith((".onnx", ".pt2")):
        parser.error(f"--export {given['export']} is neither OUT.onnx nor OUT.pt2")
    if len(given.get("short_side", (0,))) > 1:
        parser.error(f"--short-side: one number with {first}")
    if "resume" in given and (typed := sorted(of_network & given.keys())):
        parser.error(f"{flag(typed[0])} cannot be changed: the checkpoint says what it is")
    opts = USE_DEFAULTS | given
    if "short_side" in given:
        opts["short_side"] = given["short_side"][0]
    opts["arch_args"] = arch_args_of(opts["arch"], given, parser) if "pretrained" in given else {}
    if opts["workers"] is None:
        opts["workers"] = default_workers()
    return argparse.Namespace(**opts, given=set(given), use=asked[0])


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def default_workers() -> int:
    """One a core, 8 at most, for each process that torchrun starts on this machine."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(min(cores, 8), 1)


def find_resume(given: dict) -> bool:
    """Turns `--resume auto` into the checkpoint of the run of that name, if it has one."""
    if given.get("resume") != "auto":
        return False
    if not given.get("name") and not ("arch" in given and "dataset" in given):
        raise ValueError("--resume auto needs --name, or --arch and --dataset, to know the run")
    last = RUNS / (given.get("name") or default_name(DEFAULTS | given)) / "last.pth"
    del given["resume"]
    if last.exists():
        given["resume"] = str(last)
    return True


def default_name(opts: dict) -> str:
    """Of a run, or where there are several, of their series."""
    name = f"{opts['arch']}_{opts['dataset']}"
    return name if opts["splits"] else f"{name}_{opts['split']}"


def answered(opts: argparse.Namespace) -> bool:
    """Was all that is asked to see the options? Then they have been printed."""
    if opts.list_weights or not getattr(opts, "print_config", False):
        return False
    print(table(opts))
    return True


def table(opts: argparse.Namespace) -> str:
    """Every option with its value and where that came from, a line each."""
    rows = [
        (name, str(value), opts.sources[name])
        for name, value in sorted(vars(opts).items())
        if name in opts.sources
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{n:{widths[0]}}  {v:{widths[1]}}  {source}" for n, v, source in rows)


def as_json(value: object) -> str:
    return json.dumps(value, default=str)


def check_splits(given: dict) -> None:
    """Turns a series of one split into a plain run of it."""
    splits = given.get("splits", ())
    if splits and "split" in given:
        raise ValueError("--split is one run and --splits a series: give one of them")
    if len(set(splits)) < len(splits):
        raise ValueError("--splits names one of them twice")
    if len(splits) == 1:
        given["split"] = given.pop("splits")[0]
    elif splits and "resume" in given:
        raise ValueError("--splits finds the checkpoints itself, without --resume")
    elif splits and "plan" in given:
        raise ValueError("--plan is for one run: give --split instead of --splits")


def preset(given: dict) -> dict:
    """The options that a typed --protocol stands for."""
    if "protocol" not in given:
        return {}
    return vars(part(Evaluation, PROTOCOLS[given["protocol"]]))


def start_of(pretrained: str | None) -> str:
    """What the name of the weights says of where a run starts; recipes are looked up by it."""
    if pretrained is None:
        return "scratch"
    return "imagenet" if pretrained.startswith("imagenet") else "kinetics"


def arch_args_of(arch: str, given: dict, parser: argparse.ArgumentParser) -> dict:
    """The typed arguments of the network; an error if one belongs to another architecture."""
    for other, entry in ARCHS.items():
        for name in entry.options.keys() & given.keys() - ARCHS[arch].options.keys():
            parser.error(f"--{name.replace('_', '-')} is an option of {other}, not of {arch}")
    typed = {name: given[name] for name in ARCHS[arch].options if name in given}
    for name, value in typed.items():
        values = ARCHS[arch].options[name]
        if isinstance(values, tuple) and value not in values:
            known = ", ".join(map(str, values))
            parser.error(f"--{name.replace('_', '-')} {value} is not for {arch}, but {known}")
    return typed


def check(opts: dict, recipe: Recipe) -> None:
    """Combinations that no single option can see; makes `short_side` a range."""
    if len(opts["short_side"]) == 1:
        opts["short_side"] = (opts["short_side"][0],) * 2
    if opts["snippet_len"] and opts["clip_len"] % opts["snippet_len"]:
        raise ValueError("--clip-len must be a multiple of --snippet-len: frames of all segments")
    low, high = opts["short_side"] if len(opts["short_side"]) == 2 else (1, 0)
    if low > high:
        raise ValueError("--short-side takes one number, or the lowest and the highest of a range")
    if opts["compile"] and opts["checkpoint_activations"]:
        raise ValueError("--compile and --checkpoint-activations do not go together: choose one")
    if opts["sync_bn"] and opts["checkpoint_activations"]:
        raise ValueError("--sync-bn and --checkpoint-activations do not go together: choose one")
    if opts["sync_bn"] and opts["on_bad_frame"] == "skip" and not opts["evaluate"]:
        raise ValueError(
            "--sync-bn and --on-bad-frame skip do not go together, since a process whose clips are "
            "all left out would keep the others waiting: choose one, or --on-bad-frame nearest"
        )
    if opts["nesterov"] and opts["momentum"] == 0:
        raise ValueError("--nesterov needs a --momentum above 0")
    if opts["ema"] == 1:
        raise ValueError("--ema 1 would never leave the first weights; 0.999 is usual")
    if opts["crop_size"] > low:
        raise ValueError(f"--crop-size {opts['crop_size']} is more than the short side of {low}")
    check_clips(opts, recipe)
    if opts["name"] is not None and (
        "/" in opts["name"] or opts["name"] in ("", ".", "..") or opts["name"][0] == "."
    ):
        raise ValueError(f"--name '{opts['name']}' is not the name of a folder")


def check_clips(opts: dict, recipe: Recipe) -> None:
    """Combinations of what add_clip_options adds."""
    modality, segments = opts["modality"], opts["snippet_len"] > 0
    if modality != "rgb" and opts["snippet_len"] != recipe.snippet_len:
        raise ValueError(
            f"--modality {modality} of {opts['arch']} needs --snippet-len {recipe.snippet_len}"
        )
    if segments and opts["target_fps"]:
        raise ValueError("--target-fps is for consecutive clips, and --snippet-len makes segments")
    if segments and opts["views"].clips is None:
        raise ValueError(
            "--views all is for consecutive clips, as are --protocol i3d and s3d, and "
            "--snippet-len makes segments"
        )
    for name in ("crop_area", "crop_ratio"):
        if opts[name][0] > opts[name][1]:
            raise ValueError(f"--{name.replace('_', '-')} takes the lowest, then the highest")
    if any(opts["color_jitter"]) and modality == "flow":
        raise ValueError("--color-jitter is for RGB frames, not for flow")
    if opts["color_jitter"][3] > 0.5:
        raise ValueError("--color-jitter: the hue changes by half a turn, 0.5, at most")


def saved_options(checkpoint: str) -> dict:
    """What options.json beside a checkpoint says of its run; nothing if there is no such file."""
    path = Path(checkpoint).parent / "options.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    known = DEFAULTS.keys() | {f.name for f in fields(Recipe)}
    saved = {
        name: value for name, value in saved.items() if name in known and name not in NOT_INHERITED
    }
    return saved | ({"views": Views.parse(saved["views"])} if "views" in saved else {})
