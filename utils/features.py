"""Files of features: one .npz a video, and settings.json for all of a folder."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config import UserError
from utils.checkpoint import write_whole

SETTINGS = "settings.json"


def digest_of(model: nn.Module, head: str = "head.") -> str:
    """A short name for all weights but those of the head."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(head):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def start_folder(folder: Path, settings: dict) -> None:
    """Makes the folder, or checks that what is in it was made with the same settings.

    Raises:
        UserError: it was not, or the folder cannot be written.
    """
    path = folder / SETTINGS
    text = json.dumps(settings, indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else text
        if before != text:
            raise UserError(
                f"{folder} holds features made otherwise ({differences(before, settings)}); "
                "choose another OUT, or repeat what made them"
            )
        write_whole(path, text.encode())
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror})") from None


def differences(before: str, settings: dict) -> str:
    """Which settings differ, as `step 8, now 4`."""
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
    buffer = io.BytesIO()
    np.savez(
        buffer,
        features=features,
        start=frames[:, 0] / rate,
        end=frames[:, 1] / rate,
        start_frame=frames[:, 0],
        end_frame=frames[:, 1],
        fps=rate,
        settings=json.dumps(settings),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getbuffer())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); the same command goes on from there"
        ) from None
