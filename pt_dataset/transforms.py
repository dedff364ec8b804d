"""Which part of a frame the network sees, and how clips of training vary.

Crops, with one set of parameters a clip, are drawn or computed from the height and width of a
frame; `Crops` cuts them out of uint8 frames (H, W, C), C is 3 for RGB and 2 for flow.

To add an augmentation, write a field into config.Augmentation, whose default changes nothing, and
a function here, decorated with `clip_augmentation`.
"""

import functools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F

from config import Augmentation, Preprocessing

Window = tuple[slice, slice]  # rows and columns
ALL = (slice(None), slice(None))


@dataclass(frozen=True)
class Crops:
    """Windows of one size in a part of the frame that is resized."""

    part: Window
    size: tuple[int, int]  # height and width to which it is resized
    windows: list[Window]
    antialias: bool
    mirrored: tuple[bool, ...] = (False,)  # each of the windows

    def __call__(self, frame: np.ndarray, outs: Iterable[np.ndarray]) -> None:
        """Cuts each window of a frame (H, W, C) into one of `outs`, contiguous (S, S, C)."""
        image = frame[self.part]
        if image.shape[:2] != self.size:
            seen = [max(side.stop for side in sides) for sides in zip(*self.windows, strict=True)]
            image = resize(image, *self.size, self.antialias, seen)
        for window, mirrored, out in zip(self.windows, self.mirrored, outs, strict=True):
            if mirrored:
                mirror(image[window], out)
            else:
                out[:] = image[window]


def resize(
    image: np.ndarray, height: int, width: int, antialias: bool, seen: Sequence[int]
) -> np.ndarray:
    """Bilinear, on uint8 (H, W, C); all that will be `seen` of it are so many rows and columns."""
    cv2, scales = opencv(), (height / image.shape[0], width / image.shape[1])
    if cv2 and (min(scales) >= 1 or not antialias):  # which changes nothing in what grows
        rows, columns = (int((n + 1) / scale) + 2 for n, scale in zip(seen, scales, strict=True))
        return cv2.resize(image[:rows, :columns], None, fx=scales[1], fy=scales[0])
    # a contiguous, channels-last view: of others torch makes slower copies. Splitting the rows
    # gives the frame a stride of torch's: NumPy's may be 0 for a single one, and hide that view
    rows = torch.from_numpy(
        np.require(image, requirements=["C", "W"])
    )  # of read-only ones it warns
    frame = rows.unflatten(0, (1, -1)).permute(0, 3, 1, 2)
    resized = F.interpolate(frame, (height, width), mode="bilinear", antialias=antialias)
    return resized[0].permute(1, 2, 0).numpy()


def mirror(image: np.ndarray, out: np.ndarray) -> None:
    """Fills `out` from right to left; flow moves the other way then: u is 255 - u."""
    if cv2 := opencv():
        cv2.flip(image, 1, out)
    else:  # of a channels-last view torch mirrors the last axis much faster than NumPy
        pixels = torch.from_numpy(np.require(image, requirements="W"))
        out[:] = pixels.permute(2, 0, 1).flip(-1).permute(1, 2, 0)
    if out.shape[-1] == 2:
        out[..., 0] = 255 - out[..., 0]


@functools.cache
def opencv() -> ModuleType | None:
    """The fastest there is; without it torch does the same, to one gray level."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)  # parallel are the processes
    return cv2


def scaled(height: int, width: int, side: int, clip: Preprocessing) -> tuple[int, int]:
    """Height and width with a short side of `side`, as `clip` resizes; none under the crop's."""
    shorter = min(height, width)
    sides = (height, width) if clip.resize == "square" else (shorter, shorter)
    if clip.resize == "4:3":
        sides = (height, width * 3 / 4)
    down, right = side / sides[0], side / sides[1]
    return max(round(height * down), clip.crop_size), max(round(width * right), clip.crop_size)


def window_at(height: int, width: int, top: float, left: float, size: int) -> Window:
    """The `size` x `size` window at `top` and `left` in [0, 1]: from the first place to the last.

    Uniform numbers give every place the same chance.
    """
    rows, columns = height - size, width - size  # of the last place
    y, x = min(int(top * (rows + 1)), rows), min(int(left * (columns + 1)), columns)
    return slice(y, y + size), slice(x, x + size)


def training_crop(
    height: int, width: int, clip: Preprocessing, augmentation: Augmentation, rng: random.Random
) -> Crops:
    """The crop of one clip in training, one of config.CROPS."""
    if augmentation.crop == "random":
        # not the other way round: the crop of a resized frame begins between two source pixels
        to = scaled(height, width, rng.randint(*augmentation.short_side), clip)
        window = window_at(*to, rng.random(), rng.random(), clip.crop_size)
        return Crops(ALL, to, [window], clip.antialias)
    from pt_dataset.crops import corners, resized

    draw = corners.corner_window if augmentation.crop == "corners" else resized.any_window
    part = draw(height, width, clip, augmentation, rng)
    whole = slice(0, clip.crop_size)
    return Crops(part, (clip.crop_size, clip.crop_size), [(whole, whole)], clip.antialias)


def view_crops(height: int, width: int, clip: Preprocessing, num_crops: int) -> Crops:
    """The crops of evaluation.

    1 is the center, 3 lie along the longer side; 10 are the four corners and the center, and the
    same mirrored.
    """
    to = scaled(height, width, clip.short_side, clip)
    places = {
        1: [(0.5, 0.5)],
        3: [(at, 0.5) if to[0] > to[1] else (0.5, at) for at in (0, 0.5, 1)],
        10: [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)] * 2,
    }
    windows = [window_at(*to, *place, clip.crop_size) for place in places[num_crops]]
    mirrored = tuple(num_crops == 10 and i >= 5 for i in range(num_crops))
    return Crops(ALL, to, windows, clip.antialias, mirrored)


ClipAugmentation = Callable[[torch.Tensor, Augmentation, random.Random], torch.Tensor]
CLIP_AUGMENTATIONS: list[ClipAugmentation] = []  # in the order in which they are applied


def clip_augmentation(function: ClipAugmentation) -> ClipAugmentation:
    """Applies a function to each clip of training, after the crop, the flip and augmentations/.

    It gets the clip, uint8 (T, S, S, C), all augmentations that are asked for, and the generator of
    this clip, its only source of chance: so a run can be repeated and go on. Switched off it must
    not draw from it, or it would change the clips of runs that do not use it.
    """
    CLIP_AUGMENTATIONS.append(function)
    return function


def flow_channels(fields: torch.Tensor, snippet_len: int) -> torch.Tensor:
    """(..., T, S, S, 2) -> (..., T / snippet_len, S, S, 2 * snippet_len): u1, v1, u2, v2, ..."""
    return fields.unflatten(-4, (-1, snippet_len)).movedim(-4, -2).flatten(-2)
