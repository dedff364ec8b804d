"""uint8 clip (T, H, W, C) -> uint8 clip (T, S, S, C), with one set of parameters a clip.

C is 3 for RGB and 2 for flow. Crops are views; `finished` makes the one copy.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

# top and left of a window in quarters of the way from the first place to the last
POSITIONS = (
    *((0, 0), (0, 4), (4, 0), (4, 4)),  # the corners
    *((0, 2), (2, 0), (2, 4), (4, 2)),  # the middles of the edges
    *((1, 1), (1, 3), (3, 1), (3, 3)),  # halfway from the center to the corners
    (2, 2),
)


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
    return clip[:, y : y + size, x : x + size]


def random_crop(
    clip: np.ndarray,
    short_side: tuple[int, int],
    size: int,
    rng: random.Random,
    square: bool = False,
    antialias: bool = True,
) -> np.ndarray:
    """A random crop after resizing to a random side of [low, high]."""
    # not the other way round: the crop of a resized frame begins between two source pixels
    clip = scale(clip, rng.randint(*short_side), size, square, antialias)
    return crop_at(clip, rng.random(), rng.random(), size)


def random_resized_crop(
    clip: np.ndarray,
    area: tuple[float, float],
    ratio: tuple[float, float],
    size: int,
    rng: random.Random,
    antialias: bool = True,
) -> np.ndarray:
    """A window of a random share of the frame and random width / height, resized: torchvision's."""
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2)
    with torch_draws_from(rng):
        window = v2.RandomResizedCrop(size, area, ratio).make_params([frames])
    window = tvf.crop(frames, **window).permute(0, 2, 3, 1).numpy()  # a view
    return resize(window, size, size, antialias)


def corner_crop(
    clip: np.ndarray,
    scales: tuple[float, ...],
    size: int,
    rng: random.Random,
    square: bool = False,
    antialias: bool = True,
) -> np.ndarray:
    """A window at one of 13 fixed positions, resized.

    Its height and width are shares of the short side out of `scales`, neighbors there or equal; if
    `square`, of the side that each is part of.

    Source: GroupMultiScaleCrop of the authors' tsn-pytorch; arXiv:1507.02159 sec. 3.
    """
    height, width = clip.shape[1:3]
    sides = (height, width) if square else (min(height, width),) * 2
    pairs = [(a, b) for i, a in enumerate(scales) for j, b in enumerate(scales) if abs(i - j) <= 1]
    share = rng.choice(pairs)
    rows, columns = int(sides[0] * share[0]), int(sides[1] * share[1])
    down, right = rng.choice(POSITIONS)
    top, left = down * (height - rows) // 4, right * (width - columns) // 4
    return resize(clip[:, top : top + rows, left : left + columns], size, size, antialias)


def jitter_color(
    clip: np.ndarray, strengths: tuple[float, float, float, float], rng: random.Random
) -> np.ndarray:
    """Changes brightness, contrast, saturation and hue in random order: torchvision's."""
    if not any(strengths):
        return clip
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2)
    with torch_draws_from(rng):
        return v2.ColorJitter(*strengths)(frames).permute(0, 2, 3, 1).numpy()


@contextmanager
def torch_draws_from(rng: random.Random) -> Iterator[None]:
    """Inside, torch's own generator starts from `rng`; outside, it is what it was before."""
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would seed the GPUs, too
        torch.default_generator.manual_seed(rng.getrandbits(63))
        yield


def finished(clip: np.ndarray, flip: bool = False, snippet_len: int = 0) -> torch.Tensor:
    """The contiguous clip, mirrored if asked for: the only copy of a crop.

    Args:
        clip: (T, S, S, C).
        flip: a mirrored field of flow (C = 2) moves the other way, so that u becomes 255 - u.
        snippet_len: so many fields of flow become channels u1, v1, u2, v2, ...; 0: they stay.
    """
    if flip:
        # of a channels-last view torch mirrors the last axis, in the copy, much faster than NumPy
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2).flip(-1).permute(0, 2, 3, 1)
        if is_flow(clip):
            frames[..., 0] = 255 - frames[..., 0]
    else:
        frames = torch.from_numpy(np.ascontiguousarray(clip))  # half the time of torch's
    if is_flow(clip) and snippet_len:
        frames = frames.unflatten(0, (-1, snippet_len)).movedim(1, 3).flatten(3)
    return frames


def is_flow(clip: np.ndarray) -> bool:
    return clip.shape[-1] == 2


def view_crops(
    clip: np.ndarray,
    short_side: int,
    size: int,
    num_crops: int,
    square: bool = False,
    antialias: bool = True,
) -> list[tuple[np.ndarray, bool]]:
    """The crops of evaluation, and whether each is to be mirrored.

    1 is the center, 3 lie along the longer side, 10 are the four corners and the center, plain and
    mirrored.
    """
    clip = scale(clip, short_side, size, square, antialias)
    if num_crops == 1:
        return [(crop_at(clip, 0.5, 0.5, size), False)]
    if num_crops == 3:
        along_height = clip.shape[1] > clip.shape[2]
        places = [(at, 0.5) if along_height else (0.5, at) for at in (0, 0.5, 1)]
        return [(crop_at(clip, *place, size), False) for place in places]
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)]
    return [(crop_at(clip, *place, size), flip) for flip in (False, True) for place in places]
