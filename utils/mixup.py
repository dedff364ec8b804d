"""Blends of pairs of clips, with their labels."""

import random
from typing import NamedTuple

import torch


class Blend(NamedTuple):
    """Clip i becomes `share` of itself and 1 - `share` of clip `partners[i]`."""

    share: float
    partners: torch.Tensor  # (N,) indices into the batch


def draw_blend(alpha: float, batch_size: int, seed: int, step: int) -> Blend:
    """A function of seed and step, so that it does not depend on what was drawn before.

    Each clip is the larger part of its blend, so that its own label still says what it shows most.
    Source: arXiv:1710.09412, one share a batch, drawn from Beta(alpha, alpha).
    """
    rng = random.Random(f"{seed} mixup {step}")
    share = rng.betavariate(alpha, alpha)
    partners = list(range(batch_size))
    rng.shuffle(partners)
    return Blend(max(share, 1 - share), torch.tensor(partners))
