"""uint8 clip (T, H, W, 3) -> uint8 clip (T, S, S, 3), with one set of parameters a clip."""

import random

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf


def resize(clip: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with antialias, on uint8."""
    if clip.shape[1:3] == (height, width):
        return clip
    # a channels-last view, which torch resizes without copies
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2)
    return tvf.resize(frames, [height, width], antialias=True).permute(0, 2, 3, 1).numpy()


def crop_resized(
    clip: np.ndarray, short_side: int, top: float, left: float, size: int
) -> np.ndarray:
    """The `size` x `size` crop of the clip resized to a short side of `short_side`.

    `top` and `left` in [0, 1] say where: 0 is the first row or column, 1 the last place where the
    crop fits.
    """
    height, width = clip.shape[1:3]
    scale = short_side / min(height, width)
    clip = resize(clip, max(round(height * scale), size), max(round(width * scale), size))
    y, x = round(top * (clip.shape[1] - size)), round(left * (clip.shape[2] - size))
    return np.ascontiguousarray(clip[:, y : y + size, x : x + size])


def random_crop(
    clip: np.ndarray, short_side: tuple[int, int], size: int, rng: random.Random
) -> np.ndarray:
    """A random crop after resizing to a random short side of [low, high]."""
    return crop_resized(clip, rng.randint(*short_side), rng.random(), rng.random(), size)


def view_crops(clip: np.ndarray, short_side: int, size: int, num_crops: int) -> list[np.ndarray]:
    """The crops of evaluation: 1 is the center, 3 lie along the longer side."""
    if num_crops == 1:
        return [crop_resized(clip, short_side, 0.5, 0.5, size)]
    along_height = clip.shape[1] > clip.shape[2]
    places = [(at, 0.5) if along_height else (0.5, at) for at in (0, 0.5, 1)]
    return [crop_resized(clip, short_side, *place, size) for place in places]
