"""A run: what it starts from, and what its training and evaluations share.

Training, evaluation and all that is done with a trained network start here, so that a checkpoint
means the same to each of them.
"""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from config import (
    ARCHS,
    RUNS,
    Augmentation,
    Clip,
    Evaluation,
    Network,
    Preprocessing,
    UserError,
    flag,
    in_form,
    part,
    refuse,
    whole,
)
from models import build_model
from models.weights import Weights, find, load, load_exactly
from opts import OPTIONS, Options
from pt_dataset.datalist import CLASS_FILES, read_classes
from pt_dataset.loader import Loader
from pt_dataset.video_lists import VideoLists, read_dataset
from utils import checkpoint, distributed
from utils.loggers import set_up_console

TRAINING = ("train", "plan")  # actions that go on with a run


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """What a network starts from: nothing, public weights, or a checkpoint."""

    arch: str
    name: str | None = None  # of the weights, or the checkpoint's path; None: from scratch
    words: str = "from scratch"
    arch_args: dict[str, Any] = field(default_factory=dict)  # what the weights need of the network
    preprocessing: Preprocessing | None = None  # what the weights were trained with
    class_names: list[str] | None = None  # of the head; None: of pictures, or there is none
    weights: Weights | None = None  # whose head may be replaced
    weights_file: str | None = None
    evaluation: dict[str, Any] | None = None  # of the run of a checkpoint, see checkpoint.KEYS
    state: dict[str, torch.Tensor] | None = None  # of a checkpoint, exactly
    checkpoint: dict[str, Any] = field(default_factory=dict)  # of the run to go on with

    def build_network(self, num_classes: int, arch_args: dict[str, Any]) -> nn.Module:
        """The network with the weights in it, on the CPU.

        Raises:
            UserError: the weights are not of this network.
        """
        model = build_model(self.arch, num_classes, **arch_args)
        if self.weights:
            load(model, self.weights, self.weights_file)
        elif self.state:
            load_exactly(model, self.state)
        return model


def starting_point(opts: Options) -> StartingPoint:
    """What --resume or --pretrained name; the same in all processes.

    Raises:
        UserError: there is no such file, it is damaged, or the run cannot go on from it.
    """
    if opts.resume:
        # the run folder need not be there on other machines
        state = distributed.from_main(lambda: checkpoint.load(Path(opts.resume)))
        if opts.arch not in (None, state["arch"]):
            raise UserError(f"{opts.resume} is a checkpoint of {state['arch']}, not of {opts.arch}")
        if opts.action in TRAINING:
            check_resumed(opts, state)
        return from_checkpoint(opts.resume, state, opts.action)
    if opts.pretrained:
        return from_public_weights(opts, opts.pretrained)
    return StartingPoint(arch=opts.arch)


def from_public_weights(opts: Options, name: str) -> StartingPoint:
    entry = find(name, opts.arch, opts.arch_args)
    names = CLASS_FILES / entry.classes / "classes.txt"
    return StartingPoint(
        arch=opts.arch,
        name=name,
        words=name,
        arch_args=entry.arch_args,
        preprocessing=replace(entry.preprocessing, target_fps=entry.preprocessing.fps),
        class_names=read_classes(names) if names.exists() else None,
        weights=entry,
        weights_file=opts.pretrained_file,
    )


def from_checkpoint(path: str, state: dict[str, Any], action: str) -> StartingPoint:
    """Training goes on with the last weights; all else takes their average, if there is one."""
    averaged = None if action in TRAINING else state["ema"]
    network = averaged["average"] if averaged else state["model"]
    preprocessing = Preprocessing(**state["preprocessing"])
    start = StartingPoint(
        arch=state["arch"],
        name=path,
        words=f"{'averaged ' if averaged else ''}weights of {path}",
        arch_args=state["arch_args"],
        preprocessing=preprocessing,
        class_names=state["class_names"],
        evaluation=state["evaluation"],
        state=network,
        checkpoint=state,
    )
    if action != "head_only":
        return start
    # a start from its weights and not the same run: the head may be another one
    entry = Weights(
        url=path,
        read=lambda _: network,
        convert=dict,
        arch_args=start.arch_args,
        preprocessing=preprocessing,
        license="",
        source=path,
        accuracy="",
    )
    return replace(start, weights=entry, weights_file=path, state=None, checkpoint={})


def check_resumed(opts: Options, state: dict[str, Any]) -> None:
    """Can this run go on from that checkpoint?

    Raises:
        UserError: it cannot, because something asked for would change what it has done so far.
    """
    for name, (old, new) in opts.changed.items():
        if name in OPTIONS and OPTIONS[name].metadata.get("resumed") == "fixed":
            raise UserError(
                f"{opts.resume} was not trained with {flag(name)} {new} but with {old}, which "
                "cannot be changed afterwards; start a new run with another --name"
            )
    # torch loads the state of SGD into AdamW without a word
    if ("betas" in state["optimizer"]["param_groups"][0]) != (opts.optimizer == "adamw"):
        raise UserError(f"{opts.resume} was not trained with --optimizer {opts.optimizer}")


def as_evaluated(opts: Options, start: StartingPoint) -> Options:
    """The evaluation of the run that a checkpoint is of, before that of the recipe."""
    theirs = in_form(Evaluation, start.evaluation or {})
    chosen = {n: value for n, value in theirs.items() if opts.sources[n].startswith("recipe")}
    return replace(opts, **chosen, sources=opts.sources | dict.fromkeys(chosen, "checkpoint"))


def choose_preprocessing(opts: Options, start: StartingPoint) -> Preprocessing:
    """Everything between a file and the network: typed, or the weights' own, or the recipe's.

    Raises:
        UserError: the weights are of another modality, or a crop does not fit into the frame.
    """
    typed = {f.name: getattr(opts, f.name) for f in fields(Clip) if opts.typed(f.name)}
    if opts.typed("short_side"):
        typed["short_side"] = opts.short_side[0]
    if opts.typed("target_fps"):
        typed["fps"] = None  # that of the weights no longer matters
    theirs = start.preprocessing
    if theirs and opts.modality in (None, theirs.modality):
        chosen = replace(theirs, **typed)
    elif theirs and (start.checkpoint or not ARCHS[opts.arch].cross_modality):
        raise UserError(
            f"the weights {start.name} are for --modality {theirs.modality}, not for "
            f"{opts.modality}"
        )
    elif theirs:  # their kernels are averaged over the colors; see models/weights/tsn.py
        typed |= {"modality": opts.modality, "clip_len": opts.clip_len}
        chosen = replace(theirs, **typed | {"snippet_len": opts.snippet_len})
        chosen = chosen.for_flow() if opts.modality == "flow" else chosen
    else:
        chosen = recipe_preprocessing(opts)
    if chosen.crop_size > chosen.short_side:
        raise UserError(
            f"--crop-size {chosen.crop_size} is more than the short side of {chosen.short_side}"
        )
    refuse(
        opts.typed("target_fps") and chosen.snippet_len,
        "--target-fps is for consecutive clips, and the network sees segments",
    )
    return chosen


def recipe_preprocessing(opts: Options) -> Preprocessing:
    clip = vars(part(Clip, opts))
    return Preprocessing(**clip, short_side=opts.short_side[0], mean=opts.mean, std=opts.std)


def network_arguments(
    opts: Options, start: StartingPoint, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Of the class of the network: typed, or what its weights need, or the recipe's."""
    # without a recipe, as for --predict, dropout is None, and the class has its own defaults
    recipe = opts.arch_args if opts.dropout is None else vars(part(Network, opts)) | opts.arch_args
    typed = {name: value for name, value in recipe.items() if opts.typed(name)}
    modality = ARCHS[start.arch].modalities[preprocessing.modality]
    return recipe | modality | start.arch_args | typed


def choose_augmentation(opts: Options, preprocessing: Preprocessing) -> Augmentation:
    """A recipe's range of short sides holds only where it suits that of the weights."""
    augmentation, side = part(Augmentation, opts), preprocessing.short_side
    if augmentation.short_side[0] == side:
        return augmentation
    return replace(augmentation, short_side=(side, side))


@dataclass
class Run:
    """What training and evaluation share."""

    opts: Options
    folder: Path
    device: torch.device
    start: StartingPoint
    lists: VideoLists
    preprocessing: Preprocessing
    augmentation: Augmentation
    arch_args: dict[str, Any]
    model: nn.Module  # the plain network: its keys are the saved ones
    classifier: nn.Module  # from uint8 clips, wrapped for the devices
    precision: str
    frozen: list[nn.Module]  # parts that keep their weights
    view_loaders: dict[tuple, Loader] = field(
        default_factory=dict
    )  # see utils.build.view_loader_for


def run_folder(opts: Options) -> Path:
    """Where the run lives.

    Raises:
        UserError: another run lives there.
    """
    folder = RUNS / opts.name if opts.name else Path(opts.resume or "").parent
    goes_on = opts.auto or opts.action == "plan" or (opts.resume and opts.action != "head_only")
    if distributed.from_main(folder.exists) and not goes_on:
        raise UserError(
            f"the run folder {folder} exists; go on with --resume {folder / 'last.pth'}, "
            "or choose another --name"
        )
    return folder


def read_lists(opts: Options, start: StartingPoint) -> VideoLists:
    """The training, validation and test videos of a split, looked for on the disk.

    Raises:
        UserError: a list is missing or wrong, or it has other classes than the checkpoint.
    """
    with distributed.in_turn():  # the first process may write the demo set
        some_missing = opts.on_bad_frame == "skip"
        lists = read_dataset(opts.dataset, opts.data_root, opts.split, some_missing)
    if start.checkpoint and start.class_names != lists.class_names:
        raise UserError(
            f"{opts.resume} was trained on other classes than those of {lists.folder}/classes.txt"
        )
    if opts.val_groups:
        from pt_dataset.listing.groups import hold_out

        kept, held, groups = hold_out(lists.train, opts.val_groups)
        lists = replace(lists, train=kept, held_out=held, groups=groups)
    return lists


def start_run_folder(run: Run) -> None:
    """Makes the folder and writes the options there; from here on log.txt keeps the run's lines."""
    if not distributed.is_main():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    with whole(run.folder / "options.json") as temporary:
        text = json.dumps(run.opts.values(), indent=1, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")
    set_up_console(run.folder)


def pick_device(opts: Options) -> torch.device:
    """The device of `--device`; "auto" is the GPUs if there are any.

    Of several processes on a machine each has a GPU of its own.

    Raises:
        UserError: it cannot be used, or not by as many processes.
    """
    name = opts.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if distributed.launched() and name.startswith("cuda"):
        from utils.options.processes import own_gpu

        name = own_gpu(name)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # also refused by meta, which has no values
        if distributed.launched() and device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError, ImportError) as error:
        kind = torch.accelerator.current_accelerator()
        others = [f"{kind}:{i}" for i in range(torch.accelerator.device_count())]
        found = ", ".join(["cpu", *others])
        reason = f": {str(error).splitlines()[0]}" if name in (*others, str(kind)) else ""
        raise UserError(f"--device {name} cannot be used{reason}; torch finds {found}") from None
    if distributed.launched() or opts.sync_bn:
        from utils.options.processes import check_shares

        sync_bn = opts.sync_bn and not opts.evaluate
        check_shares(distributed.world_size(), opts.batch_size, sync_bn, device)
    return device


def share_size(opts: Options) -> int:
    """The most clips of a batch that one process has."""
    return -(-opts.batch_size // distributed.world_size())


def clips_at_once(opts: Options) -> int:
    """Clips that a process has on its devices at the same time, as far as the options say."""
    return opts.micro_batch if isinstance(opts.micro_batch, int) else share_size(opts)
