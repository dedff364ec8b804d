"""Checkpoints: dicts that torch.load(weights_only=True) reads, written whole or not at all."""

import os
from pathlib import Path

import torch

from config import UserError

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
)


def save(state: dict, path: Path) -> None:
    """Writes beside `path` first: `path` is the old checkpoint or the new one at any moment."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict:
    """A checkpoint of this project, on the CPU.

    Raises:
        UserError: no such file, not a checkpoint, or one of another project.
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
    return state


def rng_state() -> dict:
    """What dropout draws from; clips have generators of their own, keyed by epoch and index."""
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
