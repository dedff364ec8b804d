"""--crop corners: a window at one of 13 fixed positions, resized."""

import random

from config import Augmentation, Preprocessing
from pt_dataset.transforms import Window

# top and left of a window in quarters of the way from the first place to the last
POSITIONS = (
    *((0, 0), (0, 4), (4, 0), (4, 4)),  # the corners
    *((0, 2), (2, 0), (2, 4), (4, 2)),  # the middles of the edges
    *((1, 1), (1, 3), (3, 1), (3, 3)),  # halfway from the center to the corners
    (2, 2),
)


def corner_window(
    height: int, width: int, clip: Preprocessing, augmentation: Augmentation, rng: random.Random
) -> Window:
    """Its height and width are shares of the short side, neighbors in `crop_scales` or equal.

    Where frames are resized whatever their aspect ratio, they are shares of the side that each is
    part of.

    Source: GroupMultiScaleCrop of the authors' tsn-pytorch; arXiv:1507.02159 sec. 3.
    """
    sides = (min(height, width),) * 2 if clip.resize == "short_side" else (height, width)
    scales = list(enumerate(augmentation.crop_scales))
    share = rng.choice([(a, b) for i, a in scales for j, b in scales if abs(i - j) <= 1])
    rows, columns = int(sides[0] * share[0]), int(sides[1] * share[1])
    down, right = rng.choice(POSITIONS)
    top, left = down * (height - rows) // 4, right * (width - columns) // 4
    return slice(top, top + rows), slice(left, left + columns)
