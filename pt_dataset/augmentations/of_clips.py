"""What changes the pixels of a clip: torchvision's, with one set of parameters for all frames.

Of three options, in this order: --color-jitter, --augment, --erasing. What is off draws nothing.
"""

import random

import torch
from torchvision.transforms import v2

from config import Augmentation
from pt_dataset.augmentations.draws import torch_draws_from

GRAY = 128  # where a clip was moved away
TURNING = {"Rotate", "ShearX", "ShearY"}  # operations that change directions


def changed(
    clip: torch.Tensor,
    augmentation: Augmentation,
    flipped_labels: list[int] | None,
    rng: random.Random,
) -> torch.Tensor:
    """A clip of training, uint8 (T, S, S, 3), which may be changed in place.

    Nothing mirrors it. Nor does anything turn or shear it where labels may tell directions apart:
    where mirroring changes them, or is not allowed, or not wanted.

    Args:
        flipped_labels: see VideoLists.
    """
    clip = color_jitter(clip, augmentation, rng)
    if augmentation.augment != "none":
        same = flipped_labels and flipped_labels == list(range(len(flipped_labels)))
        with torch_draws_from(rng):
            clip = operated(clip, augmentation, turned=bool(same and augmentation.flip_prob))
    if augmentation.erasing and rng.random() < augmentation.erasing:
        with torch_draws_from(rng):
            erase(clip)
    return clip


def color_jitter(
    clip: torch.Tensor, augmentation: Augmentation, rng: random.Random
) -> torch.Tensor:
    """Changes brightness, contrast, saturation and hue in random order."""
    if not any(augmentation.color_jitter):
        return clip
    with torch_draws_from(rng):
        jittered = v2.ColorJitter(*augmentation.color_jitter)(clip.permute(0, 3, 1, 2))
    return jittered.permute(0, 2, 3, 1).contiguous()


def operated(clip: torch.Tensor, augmentation: Augmentation, turned: bool) -> torch.Tensor:
    """Applies operations on colors and places, each drawn with the same chance.

    RandAugment's are several of one magnitude, which turn by 30 degrees at most; TrivialAugment's
    is a single one of any magnitude, and may turn by 135. Sources: arXiv:1909.13719,
    arXiv:2103.10158.

    Args:
        turned: may the clip be turned?
    """
    if augmentation.augment == "randaugment":
        draw = v2.RandAugment(*augmentation.rand_augment, fill=GRAY)
    else:
        draw = v2.TrivialAugmentWide(fill=GRAY)
    if not turned:
        known = draw._AUGMENTATION_SPACE
        draw._AUGMENTATION_SPACE = {n: known[n] for n in known if n not in TURNING}
    return draw(clip.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


def erase(clip: torch.Tensor) -> None:
    """Fills a rectangle with noise, the same in all frames. Source: arXiv:1708.04896."""
    _, height, width, channels = clip.shape
    drawn = v2.RandomErasing().make_params([torch.empty(channels, height, width, device="meta")])
    if drawn["v"] is None:
        return  # none has fitted
    top, left, rows, columns = (drawn[name] for name in "ijhw")
    noise = torch.randint(256, (rows, columns, channels), dtype=torch.uint8)
    clip[:, top : top + rows, left : left + columns] = noise
