"""The command line: recipe < options of the resumed run < protocol < what is typed.

Each option is a field of one of GROUPS, those of a recipe in config.py and the others here; all
else follows from these fields. Imports no torch.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import config
from config import ARCHS, PROTOCOLS, USES, Recipe, UserError, fixed, flag, option, own, part, refuse
from utils.recipes import LITTLE_DATA, find_recipe, recipe_key, recipe_run

WITHOUT_LISTS = (*USES, "list_weights")  # actions that need no data set
TYPED = "command line"  # as the source of a value
CLIPS_AT_ONCE = 8  # by a trained network, unless --batch-size says otherwise
action_option = partial(own, action="command")  # asks for something else than training
beside_option = partial(own, action="beside")  # so does this, and another may be asked for, too
predicting = partial(option, only_with=("predict",))
extracting = partial(option, only_with=("extract_features",))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is trained on which videos."""

    arch: str = option(help="architecture", choices=ARCHS, also_with=USES)
    dataset: str = fixed(help="a folder of --data-root; 'demo' writes itself", metavar="NAME")
    recipe: str = fixed("paper", "small: for a few hundred videos", choices=("paper", "small"))
    split: int = fixed(1, "which lists: trainlist0N.json, testlist0N.json", low=1, high=99)
    splits: tuple[int, ...] = own((), "train or --evaluate each, and give the mean", low=1, high=99)
    val_groups: int = fixed(
        0, "hold out the last N groups of recordings to choose weights on; 0: the test list", low=0
    )
    data_root: str = option("videos_dataset", "folder of the data sets", metavar="DIR")
    name: str | None = own(None, "folder below saved_model (default: <arch>_<dataset>_<split>)")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run starts: from scratch, unless weights or a run are given."""

    pretrained: str | None = fixed(
        None,
        "public weights by name, downloaded to pretrained/, or a checkpoint or run of yours",
        metavar="WEIGHTS",
        also_with=USES,
    )
    pretrained_file: str | None = option(
        None, "where the file of --pretrained is already", metavar="FILE", also_with=USES
    )
    list_weights: bool = beside_option(False, "print the public weights")
    resume: str | None = own(
        None,
        "a run's folder, last.pth or best.pth; auto: go on with the run of this name, or start it",
        metavar="CHECKPOINT",
        also_with=USES,
    )


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What is done: training, unless one is given."""

    evaluate: bool = action_option(False, "evaluate the checkpoint given with --resume")
    probe_time: bool = beside_option(
        False, "with --evaluate: reversed, shuffled and frozen clips, too", only_with=("evaluate",)
    )
    head_only: bool = action_option(
        False, "train heads on features of the frozen --pretrained or --resume, computed once"
    )
    head_lrs: tuple[float, ...] = own(
        (0.0003, 0.001, 0.003, 0.01),
        "for --head-only: a head for each, and the best one is kept",
        low=0,
        metavar="LR",
        only_with=("head_only",),
    )
    plan: bool = action_option(
        False, "train 20 steps and print what the whole run would take; leaves nothing behind"
    )
    print_config: bool = beside_option(
        False, "print every option, its value and where that came from"
    )


@dataclass(frozen=True, kw_only=True)
class Use:
    """A trained network at work, that of --resume, or of --arch and --pretrained: classes and
    preprocessing come from its file, and no data set is needed."""

    predict: tuple[str, ...] = action_option(
        (), "name what happens in videos, frame folders, zips, or folders of them", metavar="PATH"
    )
    out: str = predicting("predictions", "folder of predictions.csv, a row a video", metavar="DIR")
    sliding_window: float | None = predicting(
        None, "predict each window, and draw timeline_NAME.png", low=0.01, metavar="SECONDS"
    )
    annotate: str | None = predicting(None, "the video, its labels burnt in", metavar="OUT.mp4")
    heatmap: str | None = predicting(
        None, "draw where it sees the best class, or CLASS", nargs="?", const="", metavar="CLASS"
    )
    extract_features: str | None = action_option(
        None, "write OUT/VIDEO.npz, features before the head; goes on after a stop", metavar="OUT"
    )
    videos: tuple[str, ...] = extracting((), "as of --predict, or lists (.json)", metavar="PATH")
    window: int | None = extracting(None, "frames for a feature (default: a clip)", low=1)
    step: int | None = extracting(None, "frames to the next one (default: --window)", low=1)
    fps: float | None = option(
        None, "frames a second of frame folders", low=0.1, only_with=("predict", "extract_features")
    )
    export: str | None = action_option(
        None, "write the network for other software, and compare", metavar="OUT.onnx|OUT.pt2"
    )


@dataclass(frozen=True, kw_only=True)
class Evaluating(config.Evaluation):
    """How the test list is evaluated at the end; what is typed overrides --protocol."""

    protocol: str | None = own(None, "as a paper does; clip: one center clip", choices=PROTOCOLS)
    view_batch: int | None = own(
        None, "views on the device at once; changes no result (default: as in training)", low=1
    )


GROUPS = (  # in the order of --help
    *(Experiment, Actions, Use, Start, *Recipe.__bases__[:-1], Evaluating),
    *(config.Machine, config.Loading, config.Checkpoints, config.Curves),
)
OPTIONS = {f.name: f for kind in GROUPS for f in fields(kind)}
ACTIONS = [name for name, f in OPTIONS.items() if f.metadata.get("action")]  # the last is done
DEFAULTS: dict[str, Any] = {  # of a run
    f.name: None if f.default is MISSING else f.default
    for kind in (*GROUPS, Recipe)
    for f in fields(kind)
    if kind is not Use
}


@dataclass(frozen=True, kw_only=True)
class Options(
    Recipe,
    Evaluating,
    Experiment,
    Start,
    Actions,
    Use,
    config.Machine,
    config.Loading,
    config.Checkpoints,
    config.Curves,
):
    """Every option. Of an action without a recipe, what a recipe sets is None unless typed."""

    action: str  # what is asked for: "train", or the option that asks for something else
    sources: dict[str, str]  # where the values of the options of a run came from
    changed: dict[str, tuple]  # the (old, new) of those that the resumed run had otherwise
    auto: bool  # is the run started if there is none to resume?

    def typed(self, name: str) -> bool:
        return self.sources.get(name) == TYPED

    def asked(self, name: str) -> bool:
        """Is it typed, or of a recipe that is? Then what the run starts from has no say in it."""
        of_recipe = LITTLE_DATA in self.sources.get(name, "")
        return self.typed(name) or (of_recipe and not self.resume)

    def values(self) -> dict[str, Any]:
        """The options of a run by name, and those arguments of its network that were typed."""
        known = self.arch_args | vars(self)
        return {name: known[name] for name in self.sources}


def build_parser() -> argparse.ArgumentParser:
    parser = config.Parser(
        prog="main.py",
        usage=f"python main.py --arch {{{','.join(ARCHS)}}} --dataset NAME [options]",
        description="Train or evaluate a video classifier.",
        epilog="The recipe, in utils/recipes/, depends on architecture, data set, start and "
        "modality; a run that --resume continues keeps its options. --print-config prints all.",
        allow_abbrev=False,
    )
    for kind in GROUPS:
        config.add_options(parser, kind)
        if kind is config.Network:
            config.add_options(parser, config.architecture())
    return parser


def parse_opts(argv: list[str] | None = None) -> Options:
    """All options, and how they came about; ends with status 2 if they are wrong."""
    parser = build_parser()
    try:
        return resolve(config.in_form(Options, vars(parser.parse_args(argv))))
    except UserError as error:
        parser.error(str(error))


def resolve(typed: dict[str, Any]) -> Options:
    """What the typed options come to; raises UserError if they do not go together."""
    asked = [name for name in ACTIONS if name in typed]
    action = asked[-1] if asked else "train"
    commands = [flag(name) for name in asked if OPTIONS[name].metadata["action"] == "command"]
    refuse(len(commands) > 1, f"{' and '.join(commands)} are separate commands: give one of them")
    for name in typed:
        check_companions(name, "only_with", typed)
    for name in ("resume", "pretrained"):
        path = typed.get(name, "auto")  # which is no folder, nor is the name of public weights
        is_path = config.is_checkpoint(path) or (name == "resume" and path != "auto")
        if is_path and Path(path).is_dir():
            typed = typed | {name: str(Path(path, "last.pth"))}
    if action in WITHOUT_LISTS:
        return without_recipe(action, typed)
    typed = one_or_more_splits(typed)
    auto = typed.get("resume") == "auto"
    if auto:
        typed["resume"] = last_checkpoint(typed)
    inherited = saved_options(typed["resume"]) if typed.get("resume") else {}
    theirs = {}  # what a checkpoint to start from says of its network
    if not inherited and config.is_checkpoint(typed.get("pretrained")):
        saved = saved_options(typed["pretrained"])
        theirs = {n: saved[n] for n in ("arch", "modality", "arch_args") if n in saved}
    if "name" in typed:
        inherited.pop("visdom_env", None)  # the page of the run that this one branches off
    protocol = typed.get("protocol")
    key, recipe = recipe_for(DEFAULTS | theirs | inherited | typed)
    layers: dict[str, dict[str, Any]] = {  # each counts more than those before it
        "default": DEFAULTS,
        f"recipe {key}": vars(recipe),
        "weights": theirs,
        "resumed run": inherited,
        f"protocol {protocol}": vars(PROTOCOLS[protocol]) if protocol else {},
        TYPED: typed,
    }
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers.items():
        values |= layer
        sources |= dict.fromkeys(layer, source)
    if sources["lr"].startswith("recipe") and values["batch_size"] != recipe.batch_size:
        values["lr"] = recipe.lr * values["batch_size"] / recipe.batch_size
        sources["lr"] += f", {recipe.lr:g} for {recipe.batch_size} clips, scaled"
    if values["name"] is None and (values["head_only"] or not values["resume"]):
        values["name"] = default_name(values)
    if values["workers"] is None:
        values["workers"] = config.default_workers()
    arch_args = inherited.get("arch_args", recipe.arch_args)
    values["arch_args"] = arch_args | config.typed_arch_args(values["arch"], typed)
    both = {name: (inherited[name], typed[name]) for name in typed if name in inherited}
    opts = Options(
        **{name: values[name] for name in DEFAULTS},
        action=action,
        sources=sources,
        changed={name: (old, new) for name, (old, new) in both.items() if old != new},
        auto=auto,
    )
    check_run(opts, recipe)
    return opts


def without_recipe(action: str, typed: dict[str, Any]) -> Options:
    """The options of what needs no data set: a network as its file has it, or none at all."""
    if action in USES:
        check_use(action, typed)
    values: dict[str, Any] = DEFAULTS | dict.fromkeys(f.name for f in fields(Recipe))
    values |= {"batch_size": CLIPS_AT_ONCE, "workers": config.default_workers(), "arch_args": {}}
    values |= {name: value for name, value in typed.items() if name in OPTIONS}
    if "pretrained" in typed:
        values["arch_args"] = config.typed_arch_args(typed["arch"], typed)
    sources = dict.fromkeys(typed, TYPED)
    return Options(**values, action=action, sources=sources, changed={}, auto=False)


def default_name(values: dict[str, Any]) -> str:
    """Of a run, or where there are several, of their series."""
    name = f"{values['arch']}_{values['dataset']}"
    return name if values["splits"] else f"{name}_{values['split']}"


def one_or_more_splits(typed: dict[str, Any]) -> dict[str, Any]:
    """The typed options, where a series of one split is a plain run of it."""
    splits, series = typed.get("splits", ()), len(typed.get("splits", ())) > 1
    both = splits and "split" in typed
    refuse(both, "--split is one run and --splits a series: give one of them")
    refuse(len(set(splits)) < len(splits), "--splits names one of them twice")
    refuse(series and "resume" in typed, "--splits finds the checkpoints itself, without --resume")
    refuse(series and "plan" in typed, "--plan is for one run: give --split instead of --splits")
    return typed | ({"splits": (), "split": splits[0]} if len(splits) == 1 else {})


def last_checkpoint(typed: dict[str, Any]) -> str | None:
    """What `--resume auto` stands for: the checkpoint of the run of that name, if it has one."""
    named = typed.get("name") or ("arch" in typed and "dataset" in typed)
    refuse(not named, "--resume auto needs --name, or --arch and --dataset, to know the run")
    last = config.RUNS / (typed.get("name") or default_name(DEFAULTS | typed)) / "last.pth"
    return str(last) if last.exists() else None


def saved_options(checkpoint: str) -> dict[str, Any]:
    """What a run inherits of options.json beside a checkpoint; nothing if there is no such file."""
    path = Path(checkpoint).parent / "options.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # of text or of JSON
        raise UserError(f"{path} cannot be read: {error}") from None
    refuse(not isinstance(saved, dict), f"{path} does not hold the options of a run")
    another = {name for name, f in OPTIONS.items() if f.metadata.get("resumed") == "own"}
    kept = DEFAULTS.keys() & saved.keys() - another
    values = config.in_form(Options, {name: saved[name] for name in sorted(kept)})
    known = {f.name: f for f in fields(Options)}
    parts = [(name, v, known[name].type, known[name].metadata) for name, v in values.items()]
    problem = config.first_misfit(part for part in parts if part[1] != DEFAULTS[part[0]])
    arch_args = values.get("arch_args", {})
    problem = problem or config.misfit("arch_args", arch_args, config.architecture())
    refuse(problem, f"{path} does not hold the options of a run: {problem}")
    none = {"augment": "none", "erasing": 0.0, "repeats": 1, "cutmix": 0.0, "layer_decay": 1.0}
    return {"recipe": "paper"} | none | values  # earlier versions had no other


def recipe_for(values: dict[str, Any]) -> tuple[tuple[str, ...], Recipe]:
    """The recipe of a run, after its key; raises UserError where `values` do not name a run."""
    arch, dataset, modality = values["arch"], values["dataset"], values["modality"]
    resume, pretrained = values["resume"], values["pretrained"]
    nothing = values["evaluate"] and not (resume or values["splits"])
    refuse(nothing, "--evaluate needs --resume CHECKPOINT, or --splits")
    nothing = values["head_only"] and not (resume or pretrained)
    refuse(nothing, "--head-only needs a network: --pretrained WEIGHTS or --resume CHECKPOINT")
    nameless = values["pretrained_file"] and (not pretrained or config.is_checkpoint(pretrained))
    refuse(nameless, "--pretrained-file needs --pretrained WEIGHTS, which says what the file is")
    path = resume or config.is_checkpoint(pretrained) and pretrained
    refuse(path and not (arch and dataset or Path(path).is_file()), f"no checkpoint {path}")
    beside = f" (no options.json beside {path})" if path else ""
    refuse(not arch, f"--arch is needed{beside}")
    refuse(not dataset, f"--dataset is needed{beside}")
    path = dataset in (".", "..") or set(dataset) & {"/", "\\"}
    refuse(path, f"--dataset {dataset}: not a path, but the NAME that make_json.py was given")
    its = ARCHS[arch].modalities
    refuse(modality not in its, f"--modality {modality} is not for {arch}, but {', '.join(its)}")
    run = recipe_run(values)
    return recipe_key(*run), find_recipe(*run, modality)


def check_companions(name: str, fact: str, asked: Iterable[str]) -> None:
    """Is one of those asked for that the option goes with, if its field names some?"""
    others = OPTIONS[name].metadata.get(fact, ()) if name in OPTIONS else ()
    wrong = others and not set(others) & set(asked)
    refuse(wrong, f"{flag(name)} goes with {' or '.join(map(flag, others))}")


def check_use(use: str, typed: dict[str, Any]) -> None:
    """Do the typed options go with --predict, --extract-features or --export?"""
    first = flag(use)
    for name in typed.keys() & DEFAULTS.keys():
        refuse("also_with" not in OPTIONS[name].metadata, f"{flag(name)} means nothing to {first}")
        check_companions(name, "also_with", [use])
    arch, resume, pretrained = "arch" in typed, "resume" in typed, "pretrained" in typed
    refuse(resume == pretrained, f"{first} needs --resume CHECKPOINT, or --arch and --pretrained")
    weights = typed.get("pretrained")
    refuse(config.is_checkpoint(weights), f"{first} takes a checkpoint with --resume {weights}")
    refuse(pretrained and not arch, "--pretrained needs --arch, the architecture of the weights")
    nothing = use == "extract_features" and "videos" not in typed
    refuse(nothing, "--extract-features needs --videos PATH: videos, folders of them, or lists")
    out = typed.get("export", ".pt2")
    refuse(not out.endswith((".onnx", ".pt2")), f"--export {out} is neither OUT.onnx nor OUT.pt2")
    sides = set(typed.get("short_side", ()))
    refuse(len(sides) > 1, f"--short-side: one number with {first}")
    for name in sorted(typed.keys() - OPTIONS.keys() if resume else ()):
        raise UserError(f"{flag(name)} cannot be changed: the checkpoint says what it is")


def check_run(opts: Options, recipe: Recipe) -> None:
    """Combinations that no single option of a run can see."""
    name, modality, length = opts.name, opts.modality, recipe.snippet_len
    for one, f in OPTIONS.items():
        other = f.metadata.get("not_with")
        both = other and getattr(opts, one) and getattr(opts, other)
        refuse(both, f"{flag(one)} and {flag(other or '')} do not go together: choose one")
    refuse(
        opts.sync_bn and opts.on_bad_frame == "skip" and not opts.evaluate,
        "--sync-bn and --on-bad-frame skip do not go together, since a process whose clips are all "
        "left out would keep the others waiting: choose one, or --on-bad-frame nearest",
    )
    refuse(opts.nesterov and opts.momentum == 0, "--nesterov needs a --momentum above 0")
    apart = opts.batch_size % opts.repeats
    refuse(apart, f"--batch-size {opts.batch_size} is no multiple of --repeats {opts.repeats}")
    refuse(opts.ema == 1, "--ema 1 would never leave the first weights; 0.999 is usual")
    other = modality != "rgb" and opts.snippet_len != length
    refuse(other, f"--modality {modality} of {opts.arch} needs --snippet-len {length}")
    if opts.snippet_len:
        why = "and --snippet-len makes segments"
        refuse(opts.target_fps, f"--target-fps is for consecutive clips, {why}")
        whole = "--views all is for consecutive clips, as are --protocol i3d and s3d"
        refuse(opts.views.clips is None, f"{whole}, {why}")
    no_folder = name is not None and (Path(name).name != name or name[:1] in ("", "."))
    refuse(no_folder, f"--name '{name}' is not the name of a folder")
    config.check_augmentation(part(config.Clip, opts), part(config.Augmentation, opts))
