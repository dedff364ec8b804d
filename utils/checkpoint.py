"""Checkpoints: dicts that torch.load(weights_only=True) reads, written whole or not at all."""

import io
from pathlib import Path

import torch

from config import UserError, whole
from utils import distributed

KEYS = (  # all that a checkpoint holds
    "arch",
    "arch_args",  # of build_model
    "class_names",  # in the order of the labels
    "preprocessing",  # config.Preprocessing as a dict: everything between a file and the network
    "model",  # the network's state dict, of the last step
    "ema",  # weights averaged over the steps, "average", as in "model"; None: not wanted
    "optimizer",
    "scheduler",
    "scaler",  # of the loss in fp16; None in other precisions
    "rng",  # what dropout draws from
    "epoch",  # epochs that are done
    "step",  # steps that are done
    "averages",  # of the epoch in hand: since it began, and since they were last logged
    "faults",  # of the epoch in hand: what was wrong with videos, by their index
    "steps_per_epoch",
    "precision",
    "micro_batch",  # clips that go through the network at once
    "chosen_on",  # the list whose accuracy decided for these weights; None: none did
)


def save(state: dict, path: Path) -> None:
    """Replaces the checkpoint at `path`.

    Raises:
        UserError: it cannot be written, such as on a full disk; the old one is still there.
    """
    # in memory first: torch's writer hides the reason where a write to the disk fails
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with whole(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        kept = "the one before it is kept" if path.exists() else "there is none before it"
        raise UserError(
            f"the checkpoint {path} cannot be written ({error.strerror}); {kept}; make room there "
            "and go on with --resume"
        ) from None


def load(path: Path) -> dict:
    """A checkpoint of this project, on the CPU, with all KEYS.

    Raises:
        UserError: no such file, not a checkpoint, one of another project, or weights of no use.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}") from None
    except Exception as error:  # torch.load has no common error for files that are not its own
        raise UserError(
            f"{path} is not a checkpoint, or a damaged one ({type(error).__name__})"
        ) from None
    older = {"scaler": None, "faults": {}}  # what checkpoints stand for that lack these
    state = older | state if isinstance(state, dict) else {}
    missing = [key for key in KEYS if key not in state]
    if missing:
        raise UserError(
            f"{path} is not a checkpoint of this project (it lacks {', '.join(missing[:3])}); "
            "public weights are given with --pretrained and --pretrained-file"
        )
    averaged = state["ema"]["average"] if state["ema"] else {}
    values = [*state["model"].values(), *averaged.values()]
    if not all(value.isfinite().all() for value in values):
        raise UserError(
            f"{path} holds weights that are not finite: its training had failed; take an earlier "
            "checkpoint, or train again with a lower --lr"
        )
    return state


def rng_state() -> dict:
    """What dropout draws from; clips have generators of their own, keyed by epoch and index.

    Processes of a run draw anew for each step, and leave the GPUs of the others alone.
    """
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available() and not distributed.launched():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    same_gpus = len(state.get("cuda", [])) == torch.cuda.device_count()
    if torch.cuda.is_available() and same_gpus and not distributed.launched():
        torch.cuda.set_rng_state_all(state["cuda"])
