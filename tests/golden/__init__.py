"""Reference data in a compact form, written by compress.py; README.md says where it comes from."""

import gzip
import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).parent
CLASS_FILES = FOLDER.parents[1] / "videos_dataset"
DIGESTS = FOLDER / "digests.json"  # published file -> sha256
FORMATS = sorted(path.stem for path in FOLDER.glob("checkpoints/*.npz"))
UCF101_LISTS = [f"{side}list{split:02d}" for split in (1, 2, 3) for side in ("train", "test")]


class Golden(NamedTuple):
    """What the reference implementation of a public checkpoint format computes."""

    keys: dict[str, list[int]]  # tensors of the public file -> their shapes
    num_parameters: int
    input_shape: list[int]  # (N, C, T, H, W); of 2-D networks (N, C, H, W)
    input_seed: int
    input_scale: float
    # of "clip", of "mirrored" (along W) and, unless they are images, of "reversed" (in time)
    logits: dict[str, torch.Tensor]


def read_golden(name: str) -> Golden:
    """The golden logits of the format `name`, one of FORMATS."""
    with np.load(FOLDER / "checkpoints" / f"{name}.npz") as file:
        arrays = dict(file)
    about = json.loads(arrays.pop("about").tobytes())
    logits = {name: torch.from_numpy(values) for name, values in arrays.items()}
    return Golden(logits=logits, **about)


def reference_state(keys: dict) -> dict[str, torch.Tensor]:
    """Weights for a public checkpoint format (name -> shape), the same on every machine."""
    state = {}
    for name, shape in keys.items():
        g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("running_var"):
            state[name] = 0.8 + 0.4 * torch.rand(shape, generator=g)
        elif name.endswith(("running_mean", "bias")):
            state[name] = 0.1 * torch.randn(shape, generator=g)
        elif len(shape) == 1:
            state[name] = 0.7 + 0.4 * torch.rand(shape, generator=g)
        else:
            gain = 0.1 if "non_local" in name else 1.0
            state[name] = torch.randn(shape, generator=g) * (2 / math.prod(shape[1:])) ** 0.5 * gain
    return state


def reference_clip(shape, seed: int, scale: float) -> torch.Tensor:
    """A smooth picture that moves, (N, C, T, H, W)."""
    g = torch.Generator().manual_seed(seed)
    n, c, t, h, w = shape
    low = torch.randn(n, c, h // 16, w // 16, generator=g)
    picture = F.interpolate(low, size=(h, w), mode="bilinear", align_corners=False)
    clip = torch.stack([picture.roll(4 * i, dims=-1) for i in range(t)], dim=2)
    return scale * (2 * clip + 0.2 * torch.randn(clip.shape, generator=g))


def is_published(data: bytes, file: str) -> bool:
    """Is `data` what the published `file` holds, to the byte?"""
    return hashlib.sha256(data).hexdigest() == json.loads(DIGESTS.read_text())[file]


def ucf101_entries(name: str) -> list[dict]:
    """The entries of a published list of UCF101, one of UCF101_LISTS, in their order."""
    classes = (CLASS_FILES / "ucf101" / "classes.txt").read_text().splitlines()
    with np.load(FOLDER / "ucf101.npz") as file:
        num_clips, num_frames = file["num_clips"], file["num_frames"].tolist()
    side, split = name[:-6], int(name[-2:])
    test_groups = range(7 * split - 6, 7 * split + 1)
    entries = []
    for (label, i), count in np.ndenumerate(num_clips):
        for clip in range(1, count + 1):
            # the one class whose videos are spelled in another way
            title = classes[label].replace("HandstandPushups", "HandStandPushups")
            path = f"./videos_dataset/UCF101/jpegs_256/v_{title}_g{i + 1:02d}_c{clip:02d}"
            entry = {"path": path, "class_name": classes[label], "num_frames": num_frames.pop(0)}
            if (i + 1 in test_groups) == (side == "test"):
                entries.append(entry | {"label": label})
    return sorted(entries, key=lambda entry: entry["path"].lower())


def kinetics_entries(name: str) -> list[dict]:
    """Some entries of every class of a published list, "kinetics400_val" or "kinetics200_val"."""
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
