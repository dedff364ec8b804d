"""Are the lists of a run those that its checkpoint was trained with? See pt_dataset/identity.py."""

from typing import Any

import numpy as np
import torch

from config import UserError

Columns = dict[str, torch.Tensor]
COLUMNS = {"labels": "label", "num_frames": "number of frames", "fps": "frame rate"}


def check_same_lists(path: str, before: dict[str, Any], now: dict[str, Any], rates: bool) -> None:
    """Can the training of the checkpoint at `path` go on with the lists of now?

    Args:
        rates: do frame rates matter, since clips are taken at one?

    Raises:
        UserError: it cannot, since the training or the validation list is another one.
    """
    found = []
    for part in ("train", "validation"):
        kind = "training" if part == "train" else part
        found += differences(before[part], now[part], kind, rates)
    if found:
        raise UserError(
            f"{path} was trained with other lists: {', '.join(found)}; put the old lists back, or "
            f"start a new run from its weights: --pretrained {path} with another --name"
        )


def differences(before: Columns, now: Columns, kind: str, rates: bool = False) -> list[str]:
    """What of `kind` is another list now, and how much of it; empty for the same list."""
    old, new = before["names"].numpy(), now["names"].numpy()
    others, gone = int((~np.isin(new, old)).sum()), int((~np.isin(old, new)).sum())
    found = [f"{others} of {len(new)} {kind} videos new"] if others else []
    if gone > others or gone and len(old) != len(new):  # else others are in their place
        found.append(f"{gone} of {len(old)} {kind} videos missing")
    if not found and len(old) != len(new):
        found = [f"{len(new)} {kind} videos, not {len(old)}"]
    elif not found and not np.array_equal(old, new):
        found = [f"{kind} videos in another order"]
    _, first, second = np.intersect1d(old, new, return_indices=True)
    for column, word in COLUMNS.items():
        changed = int((before[column][first] != now[column][second]).sum())
        if changed and (rates or column != "fps"):
            found.append(f"another {word} of {changed} of {len(new)} {kind} videos")
    return found


def changed_files(before: Columns, now: Columns) -> tuple[int, int]:
    """How many of the files looked at, of so many, are not what they were.

    Another list has others, which `differences` tells, and another version may look at others.
    """
    old, new = before["files"], now["files"]
    if not torch.equal(before["names"], now["names"]) or len(old) != len(new):
        return 0, 0
    there = (old != 0) & (new != 0)
    return int((old[there] != new[there]).sum()), int(there.sum())
