"""An evaluation as one object, which scores.npz keeps."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from config import UserError, whole

# what numpy raises for a file of something else
NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, EOFError)


@dataclass(frozen=True)
class Scores:
    """An evaluation, video by video, in the order of the list."""

    scores: np.ndarray  # (videos, classes), what `average` says
    labels: np.ndarray  # (videos,)
    names: list[str]  # of the videos: their paths
    class_names: list[str]
    average: str  # "scores", averaged after the softmax, or "logits", before it
    protocol: str  # in words
    num_skipped: int = 0  # videos of the list that are not among them
    loss: float | None = None  # mean cross-entropy of the views; not saved


SAVED = [field.name for field in fields(Scores) if field.name != "loss"]


def save_scores(path: Path, scores: Scores) -> None:
    # as a file: numpy would add .npz to the name
    with whole(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **{name: getattr(scores, name) for name in SAVED})


def load_scores(path: Path) -> Scores:
    """Raises UserError if there is no such file, or one of something else."""
    try:
        with np.load(path) as file:
            found = {"num_skipped": 0} | dict(file)  # older files do not have it
            arrays: dict[str, Any] = {name: found[name] for name in SAVED}
    except FileNotFoundError:
        raise UserError(f"no file {path}; --evaluate writes it beside a checkpoint") from None
    except (*NOT_OURS, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not the scores.npz of an evaluation ({error}); evaluate again"
        ) from None
    texts = {name: arrays[name].tolist() for name in ("names", "class_names")}
    texts |= {name: str(arrays[name]) for name in ("average", "protocol")}
    return Scores(**arrays | texts | {"num_skipped": int(arrays["num_skipped"])})
