"""uint8 clip (T, H, W, 3) -> uint8 clip (T, S, S, 3), with one set of parameters a clip."""

import random

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf


def resize(clip: np.ndarray, height: int, width: int, antialias: bool = True) -> np.ndarray:
    """Bilinear, on uint8."""
    if clip.shape[1:3] == (height, width):
        return clip
    # a channels-last view, which torch resizes without copies
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2)
    return tvf.resize(frames, [height, width], antialias=antialias).permute(0, 2, 3, 1).numpy()


def scale(
    clip: np.ndarray, side: int, size: int, square: bool = False, antialias: bool = True
) -> np.ndarray:
    """Resizes to a short side of `side`, or both sides if `square`; none gets under `size`."""
    height, width = clip.shape[1:3]
    factors = (side / height, side / width) if square else (side / min(height, width),) * 2
    height, width = max(round(height * factors[0]), size), max(round(width * factors[1]), size)
    return resize(clip, height, width, antialias)


def crop_at(clip: np.ndarray, top: float, left: float, size: int) -> np.ndarray:
    """The `size` x `size` crop at `top` and `left` in [0, 1]: from the first place to the last.

    Uniform numbers give every place the same chance.
    """
    rows, columns = clip.shape[1] - size, clip.shape[2] - size  # of the last place
    y, x = min(int(top * (rows + 1)), rows), min(int(left * (columns + 1)), columns)
    return np.ascontiguousarray(clip[:, y : y + size, x : x + size])


def random_crop(
    clip: np.ndarray,
    short_side: tuple[int, int],
    size: int,
    rng: random.Random,
    square: bool = False,
    antialias: bool = True,
) -> np.ndarray:
    """A random crop after resizing to a random side of [low, high]."""
    clip = scale(clip, rng.randint(*short_side), size, square, antialias)
    return crop_at(clip, rng.random(), rng.random(), size)


def view_crops(
    clip: np.ndarray,
    short_side: int,
    size: int,
    num_crops: int,
    square: bool = False,
    antialias: bool = True,
) -> list[np.ndarray]:
    """The crops of evaluation: 1 is the center, 3 lie along the longer side."""
    clip = scale(clip, short_side, size, square, antialias)
    if num_crops == 1:
        return [crop_at(clip, 0.5, 0.5, size)]
    along_height = clip.shape[1] > clip.shape[2]
    places = [(at, 0.5) if along_height else (0.5, at) for at in (0, 0.5, 1)]
    return [crop_at(clip, *place, size) for place in places]
