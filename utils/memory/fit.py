"""How many clips the memory has room for at once, found before the first step."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn

from config import UserError
from utils.memory.on_cpu import UNSEEN, measured
from utils.memory.on_gpu import largest_that_fits
from utils.memory.simulated import Cost, simulated, without_values
from utils.options.activations import compute_activations_twice

USED = 0.85  # of the free memory; the rest is for what is not foreseen
USED_AGAIN = 0.95  # for a run that goes on: what fitted before shall fit again
ALONE = 2  # batches in memory where no other process reads
LEAST_FRAMES, LEAST_SIDE = 8, 64  # of a clip that a sentence advises


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a process has to hold, but for the activations.

    Args:
        clip_shape: of a clip, uint8 (T, H, W, C).
        batch_size: clips of the whole batch.
        share: those that this process has.
        batches: such shares in the memory during a step, those that wait included.
        others: bytes that loader processes have beside them.
        copies: tensors as large as each weight that a run keeps for it, such as its momentum.
        mixup: are clips blended, in floats, on their way into the network?
        before: clips that the run had in the network at once that goes on.
        advise_twice: may activations be computed twice?
    """

    clip_shape: tuple[int, int, int, int]
    batch_size: int
    share: int
    batches: int
    others: float
    copies: int
    mixup: bool
    before: int | None = None
    advise_twice: bool = True

    @property
    def most(self) -> int:
        return min(self.before or self.share, self.share)

    def bytes_beside(self, model: nn.Module) -> float:
        """On a CPU, with the gradients."""
        weights = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        read = self.batches * self.share * math.prod(self.clip_shape)
        return read + self.others + (1 + self.copies) * weights

    def network_input(self) -> tuple[int, int, int, int]:
        frames, height, width, channels = self.clip_shape
        return channels, frames, height, width


def fit_on_cpu(
    classifier: nn.Module,
    model: nn.Module,
    load: Load,
    *,
    precision: str,
    typed: int | None,
    free: float,
) -> tuple[int, str, float | None]:
    """Clips that go through the network at once, why not all, and the seconds of one, if timed.

    Args:
        model: the plain network inside the classifier.
        typed: what the command line says.
        free: bytes for this process, and for those that read for it.

    Raises:
        UserError: a single clip does not fit; the sentence says what would.
    """
    most = load.most
    counted = simulated(model, load.network_input(), training=True)
    width = 1 / 2 if precision == "bf16" else 1  # of what is counted in float32
    expected = Cost(width * counted.fixed, width * counted.clip)
    used = (USED_AGAIN if load.before else USED) * free
    room = used - load.bytes_beside(model)
    # what else is to be held is not there yet, while a clip is tried
    if not typed and (expected.of(1) > room or UNSEEN * expected.of(1) > used):
        raise UserError(too_large(model, load, free, width * UNSEEN))
    how = {"share": typed or most, "room": room, "mixup": load.mixup}
    cost, seconds = measured(classifier, load.clip_shape, expected, **how)
    if typed or cost.of(most) <= room:  # which is infinite where the system does not say
        return typed or most, "", seconds
    fitting = int((room - cost.fixed) // cost.clip)
    if fitting < 1:
        raise UserError(too_large(model, load, free, cost.of(1) / counted.of(1)))
    why = f"a clip takes {gib(cost.clip)} in a step, and {gib(room)} of the memory are for clips"
    return -(-load.share // -(-load.share // fitting)), why, seconds


def fit_on_gpu(
    classifier: nn.Module,
    model: nn.Module,
    load: Load,
    device: torch.device,
    *,
    precision: str,
) -> tuple[int, str, None]:
    """The same on a GPU, of whose memory `load` is."""
    most = load.most
    held = load.batch_size if load.mixup else load.share  # a partner may be in another share
    how = {"batch_size": held, "mixup": load.mixup, "num_copies": load.copies}
    size = largest_that_fits(classifier, load.clip_shape, most, device, **how)
    if size:
        return size, "" if size == most else "more do not fit on the GPU", None
    times = UNSEEN / 2 if precision in ("bf16", "fp16") else UNSEEN
    free = torch.cuda.mem_get_info(device)[0]
    raise UserError(too_large(model, load, free, times))


def fit_views(
    model: nn.Module,
    input_shape: tuple[int, ...],
    most: int,
    free: float,
    processes: float,
    batches: int,
    together: int,
    least: int,
    shorter: str,
) -> int:
    """How many views a network can be asked about at once; the answers do not depend on it.

    Args:
        input_shape: of a view, (C, T, H, W).
        free: bytes of the device, and of the host if that is another one.
        processes: bytes of it that loader processes have beside their batches.
        batches: of as many views that are in the memory meanwhile, those that wait included.
        together: views that a batch has in any case.
        least: those that it has whatever is typed.
        shorter: what to type where the network alone needs too much.
    """
    cost, view = simulated(model, input_shape, training=False), math.prod(input_shape)
    one, read = cost.fixed + UNSEEN * cost.clip, batches * together * view
    room = USED * (free - processes) - cost.fixed
    fitting = room / (UNSEEN * cost.clip + batches * view)
    if fitting < together:
        fitting = (room - read) / (UNSEEN * cost.clip)
    if fitting < 1:
        fewer = min(int((USED * free - one) // (ALONE * view)), together)  # without processes
        ways = ["--workers 0"] * (processes > 0) + [f"--views {fewer}x1"] * (fewer < together)
        raise UserError(
            f"the memory does not suffice for a single clip: it takes about {gib(one)}, what is "
            f"read meanwhile {gib(read + processes)}, and of the {gib(free)} that are free they "
            f"may take {gib(USED * free)}; take {' '.join(ways) if fewer >= least else shorter}"
        )
    return min(most, int(fitting))


def too_large(model: nn.Module, load: Load, free: float, times: float) -> str:
    """The sentence where not even one clip fits, with what would.

    Args:
        times: what a pass takes, of what is counted of it in float32.
    """
    frames, side, *_ = load.clip_shape
    costs = [simulated(model, load.network_input(), training=True)]
    if load.advise_twice:
        model = without_values(model)
        compute_activations_twice(model)
        costs.append(simulated(model, load.network_input(), training=True))
    read = load.batches * load.share * math.prod(load.clip_shape)
    others = load.bytes_beside(model) - read
    found = []
    alone = (False, True) if load.others else (False,)
    choices = itertools.product((1, 2, 4), (1, 2), range(len(costs)), (1, 8), alone)
    for shorter, smaller, twice, fewer, by_itself in choices:
        if frames // shorter < min(frames, LEAST_FRAMES) or side // smaller < min(side, LEAST_SIDE):
            continue
        part = 1 / shorter / smaller**2
        need = times * costs[twice].of(1) * part + read * part / fewer + others
        need -= load.others * by_itself
        words = {
            f"--clip-len {frames // shorter}": shorter > 1,
            f"--crop-size {side // smaller}": smaller > 1,
            "--checkpoint-activations": twice,
            f"--batch-size {max(load.batch_size // fewer, 1)}": fewer > 1,
            "--workers 0": by_itself,
        }
        typed = [name for name, changed in words.items() if changed]
        fits = need <= USED * free  # of those the one that saves least, for it changes least
        found.append((not fits, len(typed), -need if fits else need, " ".join(typed)))
    now, *ways = found
    fitting = [way for way in ways if not way[0]]
    best = sorted(fitting or ways)[:3]
    best_in_words = ", ".join(f"{name} ({gib(abs(need))})" for _, _, need, name in best)
    return (
        "the memory does not suffice for a step of a single clip: with the batches that are read "
        f"meanwhile it takes about {gib(abs(now[2]))}, and it may take {gib(USED * free)} of the "
        f"{gib(free)} that are free; "
        + ("what fits: " if fitting else "still too much: ")
        + best_in_words
    )


def gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
