"""Which part of a frame the network sees, with one set of parameters a clip.

The functions of augmentation and evaluation draw or compute `Crops` from the height and width of a
frame; `Crops` cuts them out of uint8 frames (T, H, W, C), C is 3 for RGB and 2 for flow.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

Window = tuple[slice, slice]  # rows and columns
ALL = (slice(None), slice(None))
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
    # a contiguous, channels-last view: of others torch makes slower copies
    frames = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)
    return tvf.resize(frames, [height, width], antialias=antialias).permute(0, 2, 3, 1).numpy()


@dataclass(frozen=True)
class Crops:
    """Windows of one size in a part of the frame that is resized."""

    part: Window
    size: tuple[int, int]  # height and width to which it is resized
    windows: list[Window]
    antialias: bool

    def __call__(self, frames: np.ndarray) -> list[np.ndarray]:
        """(T, H, W, C) -> one clip (T, S, S, C) for each window; views where nothing is resized."""
        rows, columns = self.part
        resized = resize(frames[:, rows, columns], *self.size, self.antialias)
        return [resized[:, rows, columns] for rows, columns in self.windows]


def scaled(height: int, width: int, side: int, size: int, square: bool = False) -> tuple[int, int]:
    """Height and width with a short side of `side`, or both if `square`; none under `size`."""
    factors = (side / height, side / width) if square else (side / min(height, width),) * 2
    return max(round(height * factors[0]), size), max(round(width * factors[1]), size)


def window_at(height: int, width: int, top: float, left: float, size: int) -> Window:
    """The `size` x `size` window at `top` and `left` in [0, 1]: from the first place to the last.

    Uniform numbers give every place the same chance.
    """
    rows, columns = height - size, width - size  # of the last place
    y, x = min(int(top * (rows + 1)), rows), min(int(left * (columns + 1)), columns)
    return slice(y, y + size), slice(x, x + size)


def random_crop(
    height: int,
    width: int,
    short_side: tuple[int, int],
    size: int,
    rng: random.Random,
    square: bool = False,
    antialias: bool = True,
) -> Crops:
    """A random crop after resizing to a random side of [low, high]."""
    # not the other way round: the crop of a resized frame begins between two source pixels
    to = scaled(height, width, rng.randint(*short_side), size, square)
    window = window_at(*to, rng.random(), rng.random(), size)
    return Crops(ALL, to, [window], antialias)


def random_resized_crop(
    height: int,
    width: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    size: int,
    rng: random.Random,
    antialias: bool = True,
) -> Crops:
    """A window of a random share of the frame and random width / height, resized: torchvision's."""
    with torch_draws_from(rng):
        draw = v2.RandomResizedCrop(size, area, ratio).make_params
        drawn = draw([torch.empty(1, height, width, device="meta")])
    top, left = drawn["top"], drawn["left"]
    part = slice(top, top + drawn["height"]), slice(left, left + drawn["width"])
    return Crops(part, (size, size), [ALL], antialias)


def corner_crop(
    height: int,
    width: int,
    scales: tuple[float, ...],
    size: int,
    rng: random.Random,
    square: bool = False,
    antialias: bool = True,
) -> Crops:
    """A window at one of 13 fixed positions, resized.

    Its height and width are shares of the short side out of `scales`, neighbors there or equal; if
    `square`, of the side that each is part of.

    Source: GroupMultiScaleCrop of the authors' tsn-pytorch; arXiv:1507.02159 sec. 3.
    """
    sides = (height, width) if square else (min(height, width),) * 2
    pairs = [(a, b) for i, a in enumerate(scales) for j, b in enumerate(scales) if abs(i - j) <= 1]
    share = rng.choice(pairs)
    rows, columns = int(sides[0] * share[0]), int(sides[1] * share[1])
    down, right = rng.choice(POSITIONS)
    top, left = down * (height - rows) // 4, right * (width - columns) // 4
    part = slice(top, top + rows), slice(left, left + columns)
    return Crops(part, (size, size), [ALL], antialias)


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
    """The contiguous clip, mirrored if asked for.

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
    height: int,
    width: int,
    short_side: int,
    size: int,
    num_crops: int,
    square: bool = False,
    antialias: bool = True,
) -> Crops:
    """The crops of evaluation.

    1 is the center, 3 lie along the longer side; of 10, five of which are mirrored, the four
    corners and the center.
    """
    to = scaled(height, width, short_side, size, square)
    places = {
        1: [(0.5, 0.5)],
        3: [(at, 0.5) if to[0] > to[1] else (0.5, at) for at in (0, 0.5, 1)],
        10: [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)],
    }
    windows = [window_at(*to, *place, size) for place in places[num_crops]]
    return Crops(ALL, to, windows, antialias)
