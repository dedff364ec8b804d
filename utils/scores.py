"""An evaluation as one object, which scores.npz keeps, and two of them side by side."""

import os
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

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
            arrays = {"num_skipped": 0} | dict(file)  # older files do not have it
            arrays = {name: arrays[name] for name in SAVED}
    except FileNotFoundError:
        raise UserError(f"no file {path}; --evaluate writes it beside a checkpoint") from None
    except (*NOT_OURS, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not the scores.npz of an evaluation ({error}); evaluate again"
        ) from None
    texts = {name: arrays[name].tolist() for name in ("names", "class_names")}
    texts |= {name: str(arrays[name]) for name in ("average", "protocol")}
    return Scores(**arrays | texts | {"num_skipped": int(arrays["num_skipped"])})


def aligned(a: Scores, b: Scores, path_a: Path, path_b: Path) -> Scores:
    """`b` in the order and with the names of `a`.

    Raises:
        UserError: they are not of the same classes and videos.
    """
    if a.class_names != b.class_names:
        pairs = zip(a.class_names, b.class_names, strict=False)
        differ = [f"'{x}' is '{y}'" for x, y in pairs if x != y]
        what = differ[0] if differ else f"{len(a.class_names)} are {len(b.class_names)}"
        raise UserError(f"{path_a} and {path_b} are not of the same classes: {what}")
    names_a, names_b = a.names, b.names
    if set(names_a).isdisjoint(names_b):  # the same videos in another place?
        names_a, names_b = inside_folder(names_a), inside_folder(names_b)
    for path, names, others in ((path_a, names_a, names_b), (path_b, names_b, names_a)):
        only = sorted(set(names) - set(others))
        if only:
            raise UserError(
                f"{path_a} and {path_b} are not of the same videos: {len(only)} are only in "
                f"{path}, the first is {only[0]}"
            )
    places = {name: i for i, name in enumerate(names_b)}
    order = [places[name] for name in names_a]
    b = replace(b, scores=b.scores[order], labels=b.labels[order], names=a.names)
    wrong = np.flatnonzero(a.labels != b.labels)
    if len(wrong):
        first = wrong[0]
        raise UserError(
            f"{path_a} and {path_b} do not agree on the classes of {len(wrong)} videos: "
            f"{a.names[first]} is '{a.class_names[a.labels[first]]}' in the one and "
            f"'{a.class_names[b.labels[first]]}' in the other"
        )
    return b


def inside_folder(names: list[str]) -> list[str]:
    """Paths relative to the innermost folder that holds them all."""
    folder = os.path.commonpath(map(os.path.abspath, names))
    return [os.path.relpath(name, folder) for name in names]
