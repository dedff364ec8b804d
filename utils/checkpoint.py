"""Checkpoints: dicts that torch.load(weights_only=True) reads, written whole or not at all."""

import io
import os
from pathlib import Path

import torch

from config import UserError
from utils import distributed

KEYS = (
    "arch",
    "arch_args",
    "class_names",
    "preprocessing",
    "model",
    "optimizer",
    "scheduler",
    "rng",
    "epoch",
    "step",
    "averages",  # of the epoch in hand
    "ema",
    "steps_per_epoch",
    "precision",
    "micro_batch",
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
        write_whole(path, buffer.getbuffer())
    except OSError as error:
        kept = "the one before it is kept" if path.exists() else "there is none before it"
        raise UserError(
            f"the checkpoint {path} cannot be written ({error.strerror}); {kept}; make room there "
            "and go on with --resume"
        ) from None


def write_whole(path: Path, content: bytes) -> None:
    """Writes beside `path` first: `path` is the old file or the new one at any moment."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict:
    """A checkpoint of this project, on the CPU.

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
    missing = [key for key in KEYS if not isinstance(state, dict) or key not in state]
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
