"""Two clips in one, with both labels: mixup blends them, CutMix pastes one into the other."""

import math
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


class Box(NamedTuple):
    """The part of all frames in which CutMix shows one of two clips, and around it the other."""

    rows: slice
    columns: slice
    own: bool  # is it a clip itself that is inside, and its partner around it?


class Mixup(NamedTuple):
    """Joins this process's share of a batch with clips of the whole batch."""

    clips: torch.Tensor  # uint8 (N, T, H, W, C), of the whole batch
    labels: torch.Tensor  # (N,)
    share: float  # of a clip itself in what becomes of it
    partners: torch.Tensor  # places in the whole batch, for each clip of this process
    box: Box | None = None  # of CutMix

    def blend(self, clips: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Some clips of this process (n, T, H, W, C), joined, and the labels of their partners.

        Blends become floats only here, since floats of a whole batch would need room.
        """
        partners = self.partners[part]
        others, labels = self.clips[partners], self.labels[partners]
        if self.box is None:
            return torch.lerp(others.float(), clips.float(), self.share), labels
        around, inside = (others, clips) if self.box.own else (clips.clone(), others)
        place = (..., self.box.rows, self.box.columns, slice(None))
        around[place] = inside[place]
        return around, labels


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


def draw_box(share: float, height: int, width: int, rng: random.Random) -> tuple[Box, float]:
    """The box of a batch, and the share of the frame that a clip itself keeps, which is the larger.

    Source: arXiv:1905.04899: its center is anywhere, and what would be outside of the frame is cut
    off.

    Args:
        share: of the frame, before that, is the box or what is around it.
    """
    side = math.sqrt(rng.choice((share, 1 - share)))
    sides = []
    for size in (height, width):
        center, half = rng.randrange(size), int(side * size) // 2
        sides.append(slice(max(center - half, 0), min(center + half, size)))
    rows, columns = sides
    area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return Box(rows, columns, area > 0.5), max(area, 1 - area)


def draw_mixup(
    trainer: "Trainer", clips: torch.Tensor, labels: torch.Tensor, shares: list[int]
) -> Mixup:
    """What is joined in a step; a partner may be in the share of another process.

    With mixup and CutMix it is one of them, by a coin.

    Args:
        clips: of this process, on the device, as are `labels`.
        shares: how many each process has.
    """
    settings, rng = trainer.regularization, random.Random(f"{trainer.seed} cutmix {trainer.step}")
    cut = settings.cutmix and not (settings.mixup and rng.random() < 0.5)
    alpha = settings.cutmix if cut else settings.mixup
    share, partners = draw_blend(alpha, sum(shares), trainer.seed, trainer.step)
    _, _, height, width, _ = clips.shape
    box, share = draw_box(share, height, width, rng) if cut else (None, share)
    first = sum(shares[: distributed.rank()])
    partners = partners[first : first + len(labels)]
    if trainer.transfer:
        (partners,) = trainer.transfer.copy(partners)
    if len(shares) > 1:
        from utils.options.processes import concatenated

        clips, labels = (concatenated(own, shares) for own in (clips, labels))
    return Mixup(clips, labels, share, partners, box)
