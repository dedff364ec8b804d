"""What a step of training takes on a CPU: the memory of the process, and the time."""

import time

import torch
from torch import nn

from utils.averages import peak_memory_gb
from utils.memory.simulated import Cost
from utils.memory.trial import forget_peak, step, without_trace

CPU = torch.device("cpu")
LEAST = 64e6  # bytes of a step that stands out from what a process takes and gives back otherwise
UNSEEN = 1.5  # times what is counted: workspaces and what the allocator keeps; measured 1.1 to 1.5


def measured(
    classifier: nn.Module,
    clip_shape: tuple[int, ...],
    expected: Cost,
    *,
    share: int,
    room: float,
    mixup: bool,
) -> tuple[Cost, float]:
    """The cost of forward and backward, and the seconds a clip, from a few clips and twice as many.

    Not from twice as many where they might not fit, or where `share` clips surely do.

    Args:
        clip_shape: of a clip, uint8 (T, H, W, C).
        expected: for one clip there is room for as much.
        room: bytes.
    """
    few = min(max(int(LEAST // expected.clip), 1), share)
    with without_trace(classifier, CPU) as plain:
        before = _peak()
        peak, seconds = _try(plain, torch.zeros((few, *clip_shape), dtype=torch.uint8), mixup)
        cost = Cost(0, max((peak - before) / few, expected.clip))
        twice = UNSEEN * cost.of(2 * few)
        if cost.of(share) > room > twice and 2 * few <= share:
            clips = torch.zeros((2 * few, *clip_shape), dtype=torch.uint8)
            more, seconds = _try(plain, clips, mixup)
            clip = max((more - peak) / few, expected.clip)
            cost = Cost(max(more - before - 2 * few * clip, 0), clip)
    return cost, seconds


def _try(classifier: nn.Module, clips: torch.Tensor, mixup: bool) -> tuple[float, float]:
    """The peak of the process in bytes, and the seconds a clip."""
    forget_peak(CPU)
    began = time.perf_counter()
    step(classifier, clips, mixup)
    return _peak(), (time.perf_counter() - began) / len(clips)


def _peak() -> float:
    return (peak_memory_gb(CPU) or 0) * 2**30  # of 0 what was counted stays
