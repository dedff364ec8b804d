"""What is no start from scratch: public weights, or a checkpoint of this run or another one."""

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from config import ARCHS, Clip, Preprocessing, UserError, flag, refuse
from models import arguments_problem
from models.weights import Weights, find
from opts import OPTIONS, Options
from pt_dataset.datalist import CLASS_FILES, read_classes
from utils import distributed
from utils.resume import checkpoint_file
from utils.resume.same_data import changed_files, differences
from utils.run import NEW_RUN, TRAINING, Run, StartingPoint, choose_augmentation
from utils.trainer import Trainer

# in its folder
BEFORE_THE_FIRST_STEP = {"options.json", "log.txt", "steps.jsonl", "metrics.jsonl", "tensorboard"}
BEFORE_THE_FIRST_STEP |= {"last.pth", "machine.json"}
CLIP = [f.name for f in fields(Clip)]
log = logging.getLogger("video")


def start_from(opts: Options, path: str) -> StartingPoint:
    """What the checkpoint is a start of: the same run, another one, or its use.

    Raises:
        UserError: there is no such file, it is damaged, or the run cannot go on from it.
    """
    goes_on = bool(opts.resume) and opts.action in TRAINING
    # the run folder need not be there on other machines
    state = distributed.from_main(lambda: checkpoint_file.load(Path(path), goes_on))
    if opts.arch not in (None, state["arch"]):
        raise UserError(f"{path} is a checkpoint of {state['arch']}, not of {opts.arch}")
    problem = arguments_problem(state["arch"], state["arch_args"])
    refuse(problem, f"{path} is damaged, or of another version: arch_args: {problem}")
    first, *_ = ARCHS[state["arch"]].options.get("variant", (None,))
    theirs, arch_args = state["arch_args"].get("variant", first), opts.arch_args
    other = opts.typed("variant") and arch_args["variant"] != theirs
    refuse(other, f"{path} is of {theirs}: leave --variant to the checkpoint")
    if not opts.resume or opts.action == "head_only":
        return from_weights_of(path, state)
    if goes_on:
        check_resumed(opts, state)
    return from_checkpoint(path, state, goes_on)


def from_public_weights(opts: Options, name: str) -> StartingPoint:
    entry = find(name, opts.arch, opts.arch_args)
    names = CLASS_FILES / entry.classes / "classes.txt"
    return StartingPoint(
        arch=opts.arch,
        name=name,
        words=name,
        origin=name,
        arch_args=entry.arch_args,
        preprocessing=replace(entry.preprocessing, target_fps=entry.preprocessing.fps),
        class_names=read_classes(names) if names.exists() else None,
        weights=entry,
        weights_file=opts.pretrained_file,
    )


def preprocessing_of_weights(
    opts: Options, start: StartingPoint, theirs: Preprocessing
) -> Preprocessing:
    """That with which the weights were trained, but for what is asked for, or only a recipe has.

    Raises:
        UserError: they are of another modality, and cannot start this one.
    """
    asked = {f.name: getattr(opts, f.name) for f in fields(Clip) if opts.asked(f.name)}
    if opts.clip_len and start.weights and start.weights.classes == "imagenet":  # they saw no clips
        clip = {"clip_len": opts.clip_len, "stride": opts.stride}
        theirs = replace(theirs, **clip, snippet_len=opts.snippet_len)
    if opts.asked("short_side"):
        asked["short_side"] = opts.short_side[0]
    if opts.asked("target_fps"):
        asked["fps"] = None  # that of the weights no longer matters
    if opts.modality in (None, theirs.modality):
        return replace(theirs, **asked)
    if start.checkpoint or not ARCHS[opts.arch].cross_modality:
        raise UserError(
            f"the weights {start.name} are for --modality {theirs.modality}, not for "
            f"{opts.modality}"
        )
    # their kernels are averaged over the colors; see models/weights/tsn.py
    asked |= {"modality": opts.modality, "clip_len": opts.clip_len}
    chosen = replace(theirs, **asked | {"snippet_len": opts.snippet_len})
    return for_flow(chosen) if opts.modality == "flow" else chosen


def with_those_of_weights(
    opts: Options, start: StartingPoint, clip: Preprocessing, arch_args: dict[str, Any]
) -> Options:
    """The options as the run has them: with the clip and the network that the weights bring."""
    known = {n: v for n, v in arch_args.items() if n in ARCHS[start.arch].options}
    sides = choose_augmentation(opts, clip).short_side
    chosen = vars(clip) | arch_args | {"short_side": sides, "arch_args": known}
    if clip.snippet_len:  # of segments the rate does not matter
        del chosen["target_fps"]
    ours = vars(opts)
    theirs = {n: v for n, v in chosen.items() if n in opts.sources and ours.get(n, v) != v}
    return replace(opts, **theirs, sources=opts.sources | dict.fromkeys(theirs, str(start.name)))


def for_flow(pixels: Preprocessing) -> Preprocessing:
    """What a network expects that starts from these weights, of RGB, and sees flow.

    Source: the authors' tsn-pytorch: 128 for pixels of 0 to 255, else 0.5 with the mean
    deviation of the three colors.
    """
    channels = 2 * pixels.snippet_len
    mean = 128.0 if pixels.value_range == (0.0, 255.0) else 0.5
    std = round(sum(pixels.std) / len(pixels.std), 3)
    values = {"mean": (mean,) * channels, "std": (std,) * channels}
    return replace(pixels, modality="flow", channel_order="RGB", **values)


def has_begun(folder: Path) -> bool:
    """Is there anything in a run folder that another run could not replace without a loss?

    A run that is killed before its first step is done leaves a checkpoint of no step at most.
    """
    names = {path.name for path in folder.iterdir() if path.name[0] != "."}
    if names - BEFORE_THE_FIRST_STEP:
        return True
    if "last.pth" in names:
        try:
            state = checkpoint_file.load(folder / "last.pth", to_train=True)
        except UserError:  # what is not read may be worth something
            return True
        if state["step"] or state["action"] != "train":
            return True
    log.info(f"the run in {folder} ended before it had kept a step: this one takes its place")
    return False


def from_checkpoint(path: str, state: dict[str, Any], goes_on: bool) -> StartingPoint:
    """A run goes on with the last weights; all else takes their average, if there is one."""
    averaged = None if goes_on else state["ema"]
    network = averaged["average"] if averaged else state["model"]
    looked_at = state["chosen_on"]
    chosen = [f"{path} was chosen for its accuracy on {looked_at}"] if looked_at else []
    return StartingPoint(
        arch=state["arch"],
        name=path,
        words=f"{'averaged ' if averaged else ''}weights of {path}",
        origin=state["origin"],
        choices=[*state["choices"], *chosen],
        trained_on=state["trained_on"],
        arch_args=state["arch_args"],
        preprocessing=Preprocessing(**state["preprocessing"]),
        class_names=state["class_names"],
        evaluation=state["evaluation"],
        state=network,
        checkpoint=state,
    )


def from_weights_of(path: str, state: dict[str, Any]) -> StartingPoint:
    """A new run, and not the same one: the head may be another one."""
    start = from_checkpoint(path, state, goes_on=False)
    network, preprocessing = start.state, start.preprocessing
    assert network is not None and preprocessing is not None
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
    new = {"origin": path, "weights": entry, "weights_file": path, "state": None, "checkpoint": {}}
    return replace(start, **new)


def check_resumed(opts: Options, state: dict[str, Any]) -> None:
    """Can this run go on from that checkpoint?

    Raises:
        UserError: it cannot, because something asked for would change what it has done so far.
    """
    if state["action"] == "head_only":
        raise UserError(
            f"{opts.resume} is a head on a frozen network, no training to go on with; "
            f"--pretrained {opts.resume} with another --name trains all of the network from there"
        )
    for name, (old, new) in opts.changed.items():
        if name in OPTIONS and OPTIONS[name].metadata.get("resumed") == "fixed":
            raise UserError(
                f"{opts.resume} was not trained with {flag(name)} {new} but with {old}, which "
                f"cannot be changed afterwards; {NEW_RUN.format(opts.resume)}"
            )
    # torch loads the state of SGD into AdamW without a word
    if ("betas" in state["optimizer"]["param_groups"][0]) != (opts.optimizer == "adamw"):
        raise UserError(
            f"{opts.resume} was not trained with --optimizer {opts.optimizer}; "
            f"{NEW_RUN.format(opts.resume)}"
        )


def replaces_results(run: Run) -> bool:
    """Is an evaluation that of the end of its run: its last weights, on its test list?"""
    before, others = run.start.checkpoint["data"], {"dataset", "split"} & run.opts.changed.keys()
    if Path(run.opts.resume or "").name != "last.pth" or others:
        return False
    if before is None:
        return True
    old, new = before["test"], run.data["test"]
    changed, _ = changed_files(old, new)
    return not changed and not differences(old, new, "test", run.at_a_rate)


def resumed_in_words(run: Run, trainer: Trainer) -> list[str]:
    """Where a resumed run stands, and what is not as it was."""
    before, opts = run.start.checkpoint, run.opts
    line = f"resumed after epoch {trainer.epoch}"
    if trainer.done > 0:
        line = (
            f"resumed at step {trainer.done} of {trainer.steps_per_epoch} of epoch "
            f"{trainer.epoch + 1}"
        )
    elif trainer.epoch >= opts.epochs:
        line = f"all epochs of this run (--epochs {opts.epochs}) are done; --epochs N goes on"
    # of the clip, the checkpoint knows more than the options beside it: what weights brought
    changed = {name: pair for name, pair in opts.changed.items() if name not in CLIP}
    for name in CLIP:
        old, new = before["preprocessing"].get(name), getattr(run.preprocessing, name)
        changed |= {name: (old, new)} if old != new else {}
    lines = [line] + [
        f"from here on {name} is {new}, not {old}" for name, (old, new) in changed.items()
    ]
    if before["precision"] != run.precision:
        lines.append(f"from here on in {run.precision}, not in {before['precision']}")
    return lines + changes_in_words(run, "train", "test")


def changes_in_words(run: Run, *parts: str) -> list[str]:
    """What of the videos of these lists is not as it was, as far as a checkpoint says it."""
    before, path = run.start.checkpoint["data"], run.opts.resume
    if before is None:
        return [f"{path} does not say which videos it was trained on: that cannot be compared"]
    lines = []
    for part in parts:
        changed, checked = changed_files(before[part], run.data[part])
        if changed:
            lines.append(
                f"the files of {changed} of {checked} videos looked at in the {part} list have "
                f"changed since {path} was trained, such as to another size"
            )
        found = differences(before[part], run.data[part], part, run.at_a_rate)
        if found:
            lines.append(f"the {part} list has changed since {path} was trained: {found[0]}")
    return lines
