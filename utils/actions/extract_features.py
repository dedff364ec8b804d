"""Files of features: one .npz a video, and settings.json for all of a folder."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config import UserError, whole

SETTINGS = "settings.json"


def digest_weights(model: nn.Module, head: str = "head.") -> str:
    """A short name for all weights but those of the head."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(head):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def start_features_folder(folder: Path, settings: dict) -> None:
    """Makes the folder, or checks that what is in it was made with the same settings.

    Raises:
        UserError: it was not, or the folder cannot be written.
    """
    path = folder / SETTINGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            differences = settings_that_differ(path.read_text(encoding="utf-8"), settings)
            if differences:
                raise UserError(
                    f"{folder} holds features made otherwise ({differences}); choose another OUT, "
                    "or repeat what made them"
                )
            return
        with whole(path) as temporary:
            text = json.dumps(settings, indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror})") from None


def settings_that_differ(before: str, settings: dict) -> str:
    """Which settings differ, in whatever order they stand, as `step 8, now 4`; "" if none."""
    try:
        old = json.loads(before)
        now = json.loads(json.dumps(settings))  # JSON has no tuples
        pairs = [(name, old.get(name), now.get(name)) for name in {**old, **now}]
    except (ValueError, AttributeError):
        return f"{SETTINGS} cannot be read"
    return ", ".join(f"{name} {a}, now {b}" for name, a, b in pairs if a != b)


def write_features(
    path: Path,
    features: np.ndarray,
    spans: list[tuple[int, int]],
    fps: float | None,
    settings: dict,
) -> None:
    """Writes the features of a video, whole or not at all.

    Args:
        features: float32 (segments, dim).
        spans: first frame and the one after the last of each segment.
        fps: where it is not known, start and end in seconds are nan.
    """
    frames = np.array(spans, np.int64).reshape(-1, 2)
    rate = np.nan if fps is None else fps
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # as a file: numpy would add .npz to the name
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                features=features,
                start=frames[:, 0] / rate,
                end=frames[:, 1] / rate,
                start_frame=frames[:, 0],
                end_frame=frames[:, 1],
                fps=rate,
                settings=json.dumps(settings),
            )
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); the same command goes on from there"
        ) from None
