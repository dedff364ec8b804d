"""--crop resized: any window, resized."""

import random

import torch

from config import Augmentation, Preprocessing
from pt_dataset.augmentations.draws import torch_draws_from
from pt_dataset.transforms import Window


def any_window(
    height: int, width: int, clip: Preprocessing, augmentation: Augmentation, rng: random.Random
) -> Window:
    """A random share of the frame with a random ratio of width to height: torchvision's."""
    from torchvision.transforms import v2  # here, since it takes as long as torch

    crop = v2.RandomResizedCrop(clip.crop_size, augmentation.crop_area, augmentation.crop_ratio)
    with torch_draws_from(rng):
        drawn = crop.make_params([torch.empty(1, height, width, device="meta")])
    top, left = drawn["top"], drawn["left"]
    return slice(top, top + drawn["height"]), slice(left, left + drawn["width"])
