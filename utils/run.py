"""A run: what it starts from, and what its training and evaluations share.

Training, evaluation and all that is done with a trained network start here, so that a checkpoint
means the same to each of them.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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
    in_form,
    is_checkpoint,
    owned,
    part,
    refuse,
    try_folder,
    whole,
)
from models import build_model
from models.weights import Weights, load, load_exactly
from opts import Options, parse_opts
from pt_dataset.identity import Names, count_known, identify
from pt_dataset.loader import Loader
from pt_dataset.video_lists import VideoLists, check_clips, read_dataset
from utils import distributed
from utils.loggers import set_up_console

TRAINING = ("train", "plan")  # actions that go on with a run
GRACE = 30  # seconds for an owner to end, as long as schedulers give to a job that they stop
EASILY = 2**30  # bytes that each machine has for a step
MOST_OF_A_CLIP = 200  # times its values in floats: more than any network keeps of it in a step
# arguments of a network that are a recipe's, and no part of what its weights are
TRAINED_WITH = ("dropout", "bn_momentum", "partial_bn")
NEW_RUN = "--pretrained {} with another --name starts a new run from its weights"


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """What a network starts from: nothing, public weights, or a checkpoint."""

    arch: str
    name: str | None = None  # of the weights, or the checkpoint's path; None: from scratch
    words: str = "from scratch"
    origin: str | None = "from scratch"  # of the run that goes on, or starts; None: not known
    choices: list[str] = field(default_factory=list)  # that looked at a list, in sentences
    # the videos that the weights were trained on by this software; None: not known
    trained_on: list[Names] | None = field(default_factory=list)
    arch_args: dict[str, Any] = field(default_factory=dict)  # what the weights need of the network
    preprocessing: Preprocessing | None = None  # what the weights were trained with
    class_names: list[str] | None = None  # of the head; None: of pictures, or there is none
    weights: Weights | None = None  # whose head may be replaced
    weights_file: str | None = None
    evaluation: dict[str, Any] | None = None  # of the run of a checkpoint, see checkpoint.KEYS
    state: dict[str, torch.Tensor] | None = None  # of a checkpoint, exactly
    checkpoint: dict[str, Any] = field(default_factory=dict)  # of the run to go on with

    def build_network(self, class_names: Sequence, arch_args: dict[str, Any]) -> nn.Module:
        """The network with the weights in it, on the CPU.

        Raises:
            UserError: the weights are not of this network.
        """
        model = build_model(self.arch, len(class_names), **arch_args)
        if self.weights:
            own = is_checkpoint(self.name)
            load(model, self.weights, self.weights_file, own and self.class_names != class_names)
        elif self.state:
            load_exactly(model, self.state)
        return model


def starting_point(opts: Options) -> StartingPoint:
    """What --resume or --pretrained name; the same in all processes.

    Raises:
        UserError: there is no such file, it is damaged, or the run cannot go on from it.
    """
    path = opts.resume or is_checkpoint(opts.pretrained) and opts.pretrained
    if path:
        from utils.resume.start import start_from

        return start_from(opts, path)
    if opts.pretrained:
        from utils.resume.start import from_public_weights

        return from_public_weights(opts, opts.pretrained)
    return StartingPoint(arch=opts.arch)


def as_evaluated(opts: Options, start: StartingPoint) -> Options:
    """The evaluation of the run that a checkpoint is of, before that of the recipe."""
    theirs = in_form(Evaluation, start.evaluation or {})
    chosen = {
        name: value
        for name, value in theirs.items()
        if opts.sources[name].startswith("recipe") and not opts.asked(name)
    }
    return replace(opts, **chosen, sources=opts.sources | dict.fromkeys(chosen, "checkpoint"))


def choose_preprocessing(opts: Options, start: StartingPoint) -> Preprocessing:
    """Everything between a file and the network: asked for, or the weights' own, or the recipe's.

    Raises:
        UserError: the weights are of another modality, or a crop does not fit into the frame.
    """
    if start.preprocessing:
        from utils.resume.start import preprocessing_of_weights

        chosen = preprocessing_of_weights(opts, start, start.preprocessing)
    else:
        chosen = recipe_preprocessing(opts)
    crop, side = chosen.crop_size, chosen.short_side
    refuse(crop > side, f"--crop-size {crop} is more than the short side of {side}")
    rate = opts.typed("target_fps") and chosen.snippet_len
    refuse(rate, "--target-fps is for consecutive clips, and the network sees segments")
    shifted = network_arguments(opts, start, chosen).get("shift", False)
    whole_video = shifted and opts.views and opts.views.clips is None
    refuse(whole_video, f"--views all: a shifted network sees {chosen.clip_len} frames; try 10x3")
    return replace(chosen, fixed_segments=shifted)


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
    theirs = start.arch_args
    if not start.checkpoint:  # a new run, for which it does not count how they were trained
        theirs = {name: value for name, value in theirs.items() if name not in TRAINED_WITH}
    arguments = recipe | modality | theirs | typed
    shifted = start.arch_args.get("shift", False)  # no key of the weights tells the two apart
    other = arguments.get("shift", shifted) != shifted and (shifted or start.checkpoint)
    which = "with --shift" if shifted else "without --shift"
    refuse(other, f"{start.name} is of a network {which}: leave that to the weights")
    return arguments


def choose_augmentation(opts: Options, preprocessing: Preprocessing) -> Augmentation:
    """A recipe's range of short sides holds only where it suits that of the weights."""
    augmentation, side = part(Augmentation, opts), preprocessing.short_side
    if augmentation.short_side[0] == side:
        return augmentation
    return replace(augmentation, short_side=(side, side))


@dataclass(frozen=True)
class Fit:
    """How many clips the memory has room for."""

    clips: int  # that go through the network at once, in each process
    why: str = ""  # not more
    clip_seconds: float | None = None  # in a step of training, where one was tried


@dataclass
class Run:
    """What training and evaluation share."""

    opts: Options
    folder: Path
    device: torch.device
    start: StartingPoint
    lists: VideoLists
    data: dict[str, Any]  # what the lists are, see pt_dataset/identity.py
    preprocessing: Preprocessing
    augmentation: Augmentation
    arch_args: dict[str, Any]
    model: nn.Module  # the plain network: its keys are the saved ones
    classifier: nn.Module  # from uint8 clips, wrapped for the devices
    precision: str
    frozen: list[nn.Module]  # parts that keep their weights
    view_loaders: dict[tuple, Loader] = field(default_factory=dict)  # see build.view_loader_for
    fit: Fit | None = None  # once it was looked for, see utils.build.training_fit

    @property
    def at_a_rate(self) -> bool:
        """Do the frame rates of videos matter?"""
        return self.preprocessing.target_fps is not None

    def trained_on(self) -> list[Names] | None:
        """The videos that its weights are trained on, also before this run; None: not known."""
        before = self.start.trained_on
        if self.start.checkpoint or before is None:
            return before
        return [*before, {"depth": self.data["depth"], "names": self.data["train"]["names"]}]

    @cached_property
    def num_trained_on(self) -> int | None:
        """How many of the test videos are among them; None: not known."""
        known = self.trained_on()
        return None if known is None else count_known(self.lists.test, known)

    @cached_property
    def results_folder(self) -> Path:
        """Where the test list's results go. --evaluate replaces those of the run only for its last
        weights and its test list, or where --name says so."""
        opts, path = self.opts, Path(self.opts.resume or "")
        if not opts.evaluate or opts.auto or self.folder != path.parent:
            return self.folder
        from utils.resume.start import replaces_results

        if replaces_results(self):
            return self.folder
        return self.folder / f"results_{path.stem}_{opts.dataset}_{opts.split}"

    def try_results_folder(self) -> None:
        """Before the hours of an evaluation; raises UserError where its files have no room."""
        scores = 4 * len(self.lists.class_names)  # bytes of a video, with about 1000 in words
        num_bytes = 1_000_000 + len(self.lists.test) * (scores + 1000)
        distributed.from_main(lambda: try_folder(self.results_folder, "--name", num_bytes))

    def choices(self) -> list[str]:
        """All so far that looked at a list, but for which epoch is the best."""
        found = list(self.start.choices)
        if self.opts.action == "train" and self.opts.schedule == "plateau":
            found.append(
                f"the learning rate of {self.folder} followed the loss on {self.lists.chosen_on}"
            )
        if self.opts.action == "train" and self.opts.patience:
            found.append(
                f"the end of the training of {self.folder} followed the accuracy on "
                f"{self.lists.chosen_on}"
            )
        return list(dict.fromkeys(found))


def place_of(opts: Options) -> Path:
    """Where the run lives; of a series, how the names of its folders begin."""
    return RUNS / opts.name if opts.name else Path(opts.resume or "").parent


@contextlib.contextmanager
def owned_run(opts: Options, argv: list[str]) -> Iterator[Options]:
    """Inside, no other process has the folder that this one trains in.

    Yields the options, the same in all processes: read again, since what goes on does so from what
    the owner before it has left. It is waited for, as it may be the same job that still ends.

    Raises:
        UserError: another process has the folder.
    """
    writes = opts.splits or opts.action in ("train", "head_only")
    lock: contextlib.AbstractContextManager = contextlib.nullcontext()
    if writes and distributed.is_main():
        lock = owned(place_of(opts), wait=GRACE if opts.auto or opts.resume else 0)
    with lock:
        yield distributed.from_main(lambda: parse_opts(argv))


def owned_results(run: Run) -> contextlib.AbstractContextManager:
    """Inside, no other process writes where an evaluation writes its results."""
    if run.opts.action in ("evaluate", "probe_time") and distributed.is_main():
        return owned(run.results_folder)
    return contextlib.nullcontext()


def run_folder(opts: Options) -> Path:
    """Where the run lives.

    Raises:
        UserError: another run lives there.
    """
    folder = place_of(opts)
    goes_on = opts.auto or opts.action == "plan" or (opts.resume and opts.action != "head_only")
    if not goes_on and distributed.from_main(lambda: is_taken(folder)):
        last = folder / "last.pth"
        go_on = f"go on with --resume {last}, or " if last.exists() else "without a last.pth; "
        raise UserError(f"the run folder {folder} exists; {go_on}choose another --name")
    return folder


def is_taken(folder: Path) -> bool:
    """Is there more in it than what a run leaves that has done no step?"""
    if not folder.exists():
        return False
    from utils.resume.start import has_begun

    return has_begun(folder)


def read_lists(
    opts: Options, start: StartingPoint, preprocessing: Preprocessing
) -> tuple[VideoLists, dict[str, Any]]:
    """The training, validation and test videos of a split, looked for on the disk.

    The second is what tells them from other lists: see pt_dataset/identity.py. It is the same in
    all processes, and of a training that goes on as it was.

    Raises:
        UserError: a list is missing or wrong, or lacks what clips need, or it has other classes
            than the checkpoint, or is another one than in its training or in another process.
    """
    with distributed.in_turn():  # the first process may write the demo set
        some_missing = opts.on_bad_frame == "skip"
        lists = read_dataset(opts.dataset, opts.data_root, opts.split, some_missing)
    if start.checkpoint and start.class_names != lists.class_names:
        raise UserError(
            f"{opts.resume} was trained on other classes than those of {lists.folder}/classes.txt, "
            f"or in another order; {NEW_RUN.format(opts.resume)}"
        )
    if opts.val_groups:
        from pt_dataset.listing.groups import hold_out

        kept, held, groups = hold_out(lists.train, opts.val_groups)
        lists = replace(lists, train=kept, held_out=held, groups=groups)
    before = start.checkpoint.get("data")
    data = identify(lists, before and before["depth"], preprocessing.modality)
    if distributed.launched():
        from utils.options.processes import check_same_data

        check_same_data(data)
    if before and opts.action in TRAINING:
        from utils.resume.same_data import check_same_lists

        check_same_lists(str(opts.resume), before, data, preprocessing.target_fps is not None)
    check_clips(lists, preprocessing, opts.views.crops)
    return lists, data


def start_run_folder(run: Run) -> None:
    """Makes the folder, which from here on keeps options, machine and the lines of the run."""
    if not distributed.is_main():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    if not run.start.checkpoint:  # of a run that had done no step
        (run.folder / "last.pth").unlink(missing_ok=True)
    opts = run.opts
    if run.start.preprocessing:
        from utils.resume.start import with_those_of_weights

        opts = with_those_of_weights(opts, run.start, run.preprocessing, run.arch_args)
    with whole(run.folder / "options.json") as temporary:
        text = json.dumps(opts.values(), indent=1, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")
    from utils.report.machine import write_machine

    write_machine(run.folder, run.device, run.precision)
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
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("networks train on CPUs and on GPUs of CUDA and Apple")
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)  # nothing is to be left on the first one
        torch.zeros(1, device=device).item()
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


def is_small(clips: int, shape: tuple[int, ...], room: float = EASILY) -> bool:
    """Do so many, each of `shape` (C, T, H, W), surely need no more than `room` bytes?"""
    return clips * 4 * math.prod(shape) * MOST_OF_A_CLIP <= room
