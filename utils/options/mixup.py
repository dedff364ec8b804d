"""Blends of pairs of clips, with their labels."""

import random
from typing import TYPE_CHECKING, NamedTuple

import torch

from utils import distributed

if TYPE_CHECKING:
    from utils.trainer import Trainer


class Blend(NamedTuple):
    """Clip i becomes `share` of itself and 1 - `share` of clip `partners[i]`."""

    share: float
    partners: torch.Tensor  # (N,) indices into the batch


class Mixup(NamedTuple):
    """Blends this process's share of a batch with clips of the whole batch."""

    clips: torch.Tensor  # uint8 (N, T, H, W, C), of the whole batch
    labels: torch.Tensor  # (N,)
    share: float  # of a clip itself in its blend
    partners: torch.Tensor  # places in the whole batch, for each clip of this process

    def blend(self, clips: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Some clips of this process (n, T, H, W, C), blended, and the labels of their partners.

        They become floats only here, since floats of a whole batch would need room.
        """
        partners = self.partners[part]
        blended = torch.lerp(self.clips[partners].float(), clips.float(), self.share)
        return blended, self.labels[partners]


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


def draw_mixup(
    trainer: "Trainer", clips: torch.Tensor, labels: torch.Tensor, shares: list[int]
) -> Mixup:
    """The blends of a step; a partner may be in the share of another process.

    Args:
        clips: of this process, on the device, as are `labels`.
        shares: how many each process has.
    """
    alpha = trainer.regularization.mixup
    share, partners = draw_blend(alpha, sum(shares), trainer.seed, trainer.step)
    first = sum(shares[: distributed.rank()])
    partners = partners[first : first + len(labels)]
    if trainer.transfer:
        (partners,) = trainer.transfer.copy(partners)
    if len(shares) > 1:
        from utils.options.processes import concatenated

        clips, labels = (concatenated(own, shares) for own in (clips, labels))
    return Mixup(clips, labels, share, partners)
