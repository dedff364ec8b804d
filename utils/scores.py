"""An evaluation as one object, which scores.npz keeps."""

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from config import AVERAGES, UserError, whole


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

    def __post_init__(self):
        """No number that is not finite is written or compared; raises UserError."""
        wrong = np.flatnonzero(~np.isfinite(self.scores).all(axis=1))
        if len(wrong):
            raise UserError(
                f"the scores of {len(wrong)} of {len(self.names)} videos are not finite, the first "
                f"is {self.names[wrong[0]]}: the weights, or statistics of batch norm, are of no "
                "use, or too large for the precision; try --precision fp32, or other weights"
            )


SAVED = [field.name for field in fields(Scores) if field.name != "loss"]


def save_scores(path: Path, scores: Scores) -> None:
    # as a file: numpy would add .npz to the name
    with whole(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **{name: getattr(scores, name) for name in SAVED})


def load_scores(path: Path) -> Scores:
    """Those in a file, or in the folder of a run.

    Raises:
        UserError: there is no such file, or one of something else, or a damaged one.
    """
    path = path / "scores.npz" if path.is_dir() else path
    try:
        content = path.read_bytes()
        # numpy compares the checksum of an array only if it reads the array to its end
        if broken := zipfile.ZipFile(io.BytesIO(content)).testzip():
            raise zipfile.BadZipFile(f"{broken} has another checksum")
        with np.load(io.BytesIO(content)) as file:
            found: dict[str, Any] = {"num_skipped": np.array(0)} | dict(file)  # as older files
        # of what is damaged, numpy returns the bytes
        arrays: dict[str, Any] = {name: np.asarray(found[name]) for name in SAVED}
    except FileNotFoundError:
        raise UserError(f"no file {path}; --evaluate writes it beside a checkpoint") from None
    except Exception as error:  # zipfile and numpy have no common error for what is not theirs
        raise UserError(
            f"{path} is not the scores.npz of an evaluation, or a damaged one ({error}); "
            "evaluate again"
        ) from None
    if problem := form_problem(**arrays):
        raise UserError(f"{path} is not the scores.npz of an evaluation: {problem}; evaluate again")
    texts = {name: arrays[name].tolist() for name in ("names", "class_names")}
    texts |= {name: str(arrays[name]) for name in ("average", "protocol")}
    try:
        return Scores(**arrays | texts | {"num_skipped": int(arrays["num_skipped"])})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def form_problem(
    scores: np.ndarray,
    labels: np.ndarray,
    names: np.ndarray,
    class_names: np.ndarray,
    average: np.ndarray,
    protocol: np.ndarray,
    num_skipped: np.ndarray,
) -> str:
    """Which of the arrays of a file is not as `save_scores` writes it; or ""."""
    videos, classes = names.size, class_names.size
    forms = {  # kinds of numpy: floats, integers, texts
        "scores": (scores, "f", (videos, classes)),
        "labels": (labels, "i", (videos,)),
        "names": (names, "U", (videos,)),
        "class_names": (class_names, "U", (classes,)),
        "average": (average, "U", ()),
        "protocol": (protocol, "U", ()),
        "num_skipped": (num_skipped, "i", ()),
    }
    for name, (array, kind, shape) in forms.items():
        if array.dtype.kind != kind or array.shape != shape:
            return f"{name} is {array.dtype} of shape {array.shape}, where it should be {shape}"
    if not videos:
        return "it holds no videos"
    if labels.min() < 0 or labels.max() >= classes:
        return f"a label is none of the {classes} classes"
    if len(set(class_names.tolist())) < classes:
        return "a class stands twice in it"
    return "" if str(average) in AVERAGES and num_skipped >= 0 else f"average is '{average}'"
