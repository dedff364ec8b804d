"""A checkpoint read back: nothing in it is believed that has not been checked."""

import math
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch

from config import (
    ARCHS,
    Dataclass,
    Evaluation,
    Preprocessing,
    UserError,
    first_misfit,
    in_form,
    refuse,
)
from utils import averages, distributed
from utils.checkpoint import KEYS
from utils.options.fused import fit_moments
from utils.trainer import Trainer

# for keys that older checkpoints lack
OLDER: dict[str, Any] = {"scaler": None, "faults": {}, "choices": [], "action": "train"}
OLDER |= dict.fromkeys(("origin", "data", "trained_on", "evaluation"))  # not known
# what an optimizer keeps for each parameter
MOMENTS = {"sgd": {"momentum_buffer"}, "adamw": {"step", "exp_avg", "exp_avg_sq"}}
# of an element a video; but for "files", see pt_dataset/identity.py
COLUMNS = {"names": torch.int64, "labels": torch.int32, "num_frames": torch.int32}
COLUMNS |= {"fps": torch.float64, "files": torch.int64}
State = dict[str, torch.Tensor]
Count = Annotated[int, {"low": 0}]


@dataclass
class Averaged:
    """What is under "ema"."""

    average: State
    steps: Count


@dataclass
class Names:
    """Of "trained_on", see pt_dataset/identity.py, as are the next two."""

    names: torch.Tensor
    depth: Count


@dataclass
class Columns:
    names: torch.Tensor
    labels: torch.Tensor
    num_frames: torch.Tensor
    fps: torch.Tensor
    files: torch.Tensor


@dataclass
class Lists:
    depth: Count
    train: Columns
    validation: Columns
    test: Columns


@dataclass
class ForAll:
    """What is under the keys that every use of a checkpoint needs."""

    arch: Annotated[str, {"choices": ARCHS}]
    arch_args: dict[str, Any]  # see models.check_arguments
    class_names: list[str]
    preprocessing: Preprocessing
    evaluation: Evaluation | None
    model: State
    ema: Averaged | None
    epoch: Count
    chosen_on: str | None
    choices: list[str]
    origin: str | None
    action: str
    data: Lists | None
    trained_on: list[Names] | None


@dataclass
class OptimizerState:
    state: dict[int, dict[str, torch.Tensor | None]]  # by the number of the parameter
    param_groups: list[dict[str, Any]]


@dataclass
class Losses:
    losses: list[float]  # of the validation after each epoch


@dataclass
class RandomStates:
    torch: torch.Tensor
    cuda: list[torch.Tensor] = field(default_factory=list)


@dataclass
class Sums:
    sums: torch.Tensor
    clips: Count
    steps: Count
    data_time: float
    copy_time: float
    time: float
    names: list[str] = field(default_factory=list)


@dataclass
class ForTraining:
    """What is under the keys that only a training needs which goes on."""

    optimizer: OptimizerState
    scheduler: Losses
    scaler: dict[str, float] | None
    rng: RandomStates
    step: Count
    averages: tuple[Sums, Sums] | list[Sums]
    faults: dict[int, str]
    steps_per_epoch: Annotated[int, {"low": 1}]
    precision: str
    micro_batch: Annotated[int, {"low": 1}]


def load(path: Path, to_train: bool = False) -> dict[str, Any]:
    """A checkpoint of this project, on the CPU, with all KEYS.

    Args:
        to_train: is everything needed that a training goes on from?

    Raises:
        UserError: no such file, not a checkpoint, a damaged one, one of another project, or weights
            of no use.
    """
    state = read(path)
    state = OLDER | state if isinstance(state, dict) else {}
    missing = [key for key in KEYS if key not in state]
    if missing:
        raise UserError(
            f"{path} is not a checkpoint of this project (it lacks {', '.join(missing[:3])}); "
            "public weights are given with --pretrained and --pretrained-file"
        )
    formed = dict(state)
    if isinstance(state["evaluation"], dict):  # its views are text
        formed["evaluation"] = in_form(Evaluation, state["evaluation"])
    problem = problem_with(formed, ForAll) or network_problem(state) or columns_problem(state)
    if to_train:
        problem = problem or problem_with(state, ForTraining) or position_problem(state)
    refuse(problem, f"{path} is damaged, or of another version: {problem}")
    averaged = state["ema"]["average"] if state["ema"] else {}
    if not all(value.isfinite().all() for value in [*state["model"].values(), *averaged.values()]):
        raise UserError(
            f"{path} holds weights that are not finite: its training had failed; take an earlier "
            "checkpoint, or train again with a lower --lr"
        )
    return state


def load_checked(path: Path) -> Any:
    """What torch.load finds in the file, with its checksums, which torch writes and never reads.

    They take as long as the reading: 0.06 s for 200 MB. Any exception means that it is damaged.
    """
    with open(path, "rb") as file:
        if broken := zipfile.ZipFile(file).testzip():
            raise zipfile.BadZipFile(f"{broken} has another checksum")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def read(path: Path) -> object:
    """The same; raises UserError if it cannot be read."""
    try:
        return load_checked(path)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}") from None
    except MemoryError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except Exception as error:  # zipfile and torch have no common error for what is not theirs
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a checkpoint, or a damaged one ({reason})") from None


def problem_with(state: dict[str, Any], form: type[Dataclass]) -> str:
    """Which of the keys that `form` has fields for holds something else; or ""."""
    return first_misfit((f.name, state[f.name], f.type) for f in fields(form))


def network_problem(state: dict[str, Any]) -> str:
    """What in the weights is none of a network's; or ""."""
    shapes = {name: value.shape for name, value in state["model"].items()}
    averaged = state["ema"]["average"] if state["ema"] else state["model"]
    if {name: value.shape for name, value in averaged.items()} != shapes:
        return "the averaged weights are those of another network"
    for name, value in [*state["model"].items(), *averaged.items()]:
        if not (value.is_floating_point() or value.dtype == torch.int64):
            return f"{name} is of {value.dtype}"
    return ""


def columns_problem(state: dict[str, Any]) -> str:
    """What of its videos is no column, or as long as no other; or ""."""
    lists = [("trained_on", {"names": one["names"]}) for one in state["trained_on"] or ()]
    if state["data"]:
        lists += [(part, state["data"][part]) for part in ("train", "validation", "test")]
    for part, columns in lists:
        for name, column in columns.items():
            as_long = name == "files" or column.shape == columns["names"].shape
            if column.dtype != COLUMNS[name] or column.dim() != 1 or not as_long:
                return f"{name} of {part} is no column of videos"
    return ""


def position_problem(state: dict[str, Any]) -> str:
    done = state["step"] - state["epoch"] * state["steps_per_epoch"]
    if 0 <= done <= state["steps_per_epoch"]:
        return ""
    return f"step {state['step']} is not in epoch {state['epoch']}"


def go_on(trainer: Trainer, state: dict[str, Any], path: str) -> None:
    """Brings `trainer` to where the checkpoint `state`, read from `path`, left off.

    Raises:
        UserError: what it holds of the optimizer or of random numbers does not fit this run.
    """
    problem = optimizer_problem(trainer, state["optimizer"])
    refuse(problem, f"{path} cannot be gone on with: {problem}; start a new run with --name")
    try:
        load_state(trainer, state)
        fit_moments(trainer.optimizer)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:  # as torch says it
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged, or of another version ({reason})") from None


def load_state(trainer: Trainer, state: dict[str, Any]) -> None:
    """All of `Trainer.state_dict` but the network's own weights, which are there already.

    The optimizer's settings, such as the momentum, are those that the trainer was made with.
    """
    own_groups = trainer.optimizer.state_dict()["param_groups"]
    trainer.optimizer.load_state_dict(state["optimizer"] | {"param_groups": own_groups})
    trainer.schedule.losses = list(state["scheduler"]["losses"])
    if state["scaler"] and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    if state["ema"] and trainer.ema:
        trainer.ema.load_state_dict(state["ema"])
    set_rng_state(state["rng"])
    trainer.epoch, trainer.step = state["epoch"], state["step"]
    ours = trainer.averages.total, trainer.averages.recent
    for sums, values in zip(ours, state["averages"], strict=True):
        load_sums(sums, values)
    trainer.faults.found |= state["faults"]


def load_sums(sums: averages.Sums, state: dict[str, Any]) -> None:
    if distributed.is_main():  # its sums stand for those of all processes
        # older checkpoints had these, and no names
        names = state.get("names", ["loss", "top1", "top5"])
        saved = dict(zip(names, state["sums"].tolist(), strict=False))
        # nobody knows the part of a new number that is over: this epoch has no mean of it
        values = [saved.get(name, math.nan) for name in sums.names]
        sums.over_clips.copy_(torch.tensor(values, dtype=torch.float64))
    sums.counts = {name: state[name] for name in sums.counts}


def set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    same_gpus = len(state.get("cuda", [])) == torch.cuda.device_count()
    if torch.cuda.is_initialized() and same_gpus and distributed.world_size() == 1:
        torch.cuda.set_rng_state_all(state["cuda"])


def optimizer_problem(trainer: Trainer, saved: dict[str, Any]) -> str:
    """What keeps the saved state from being that of the trainer's parameters; or ""."""
    ours = trainer.optimizer.state_dict()["param_groups"]
    if [group.get("params") for group in saved["param_groups"]] != [g["params"] for g in ours]:
        return "its optimizer trained other parameters, or in other groups"
    for number, moments in saved["state"].items():
        if not 0 <= number < len(trainer.parameters):
            return f"its optimizer has a parameter {number}"
        if moments.keys() != MOMENTS[trainer.optimization.optimizer]:
            return f"its optimizer keeps {', '.join(moments)} of parameter {number}"
        shape = trainer.parameters[number].shape
        for name, value in moments.items():
            if value is not None and (value.shape not in (shape, ()) or value.isnan().any()):
                return f"{name} of parameter {number} of its optimizer is of no use"
    return ""
