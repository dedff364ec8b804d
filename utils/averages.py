"""What the steps of an epoch come to: sums over clips, and times."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch

from utils import distributed

T = TypeVar("T")


def logged_numbers(
    logits: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What is logged of the steps, summed over clips; a line more here is a curve more.

    Names that begin with "top" are counted, and shown in percent.

    Args:
        logits: (N, classes), of any number of clips, as are `labels` (N,).
        loss: of these clips, summed, too.
    """
    num_classes = logits.shape[1]
    hits = logits.topk(min(5, num_classes), dim=1).indices == labels[:, None]
    numbers = {"loss": loss, "top1": hits[:, 0].sum()}
    if num_classes > 5:  # else all are hits
        numbers["top5"] = hits.sum()
    return numbers


class Sums:
    """Sums over a range of steps.

    Those over clips stay on the device: reading them would wait for it. They are of this process's
    clips, and read for all processes at once; clips are counted for all, and times are this
    process's own.
    """

    def __init__(self, names: list[str], device: torch.device):
        self.names = names  # of what logged_numbers sums over clips
        self.over_clips = torch.zeros(len(names), dtype=torch.float64, device=device)
        # times are in seconds
        self.counts = {"clips": 0, "steps": 0, "data_time": 0.0, "copy_time": 0.0, "time": 0.0}

    def state_dict(self) -> dict[str, Any]:
        sums = distributed.all_reduce_sum(self.over_clips).cpu()
        return {"sums": sums, "names": list(self.names)} | self.counts


class Averages:
    """Sums of the epoch in hand, and of its steps since they were last logged.

    Args:
        num_classes: of the logits.
        clip_len: frames of a clip.
        clips_per_s_at_peak: what arithmetic at the device's peak would give, where that is known.
    """

    def __init__(
        self,
        device: torch.device,
        num_classes: int,
        clip_len: int,
        clips_per_s_at_peak: float | None = None,
    ):
        self.device, self.clip_len = device, clip_len
        # float64 there is none on mps
        self.place = torch.device("cpu") if device.type == "mps" else device
        self.clips_per_s_at_peak = clips_per_s_at_peak
        nothing = torch.zeros(0, num_classes)
        self.names = list(logged_numbers(nothing, torch.zeros(0), nothing.sum()))
        self.start_epoch()

    def start_epoch(self) -> None:
        self.total, self.recent = (Sums(self.names, self.place) for _ in range(2))
        if self.device.type == "cuda":  # what was tried or evaluated before is no part of it
            torch.cuda.reset_peak_memory_stats(self.device)

    def start_recent(self) -> None:
        self.recent = Sums(self.names, self.place)

    def add(self, **counts: float) -> None:
        """Adds to the counts: clips, steps or times."""
        for sums in (self.total, self.recent):
            for name, count in counts.items():
                sums.counts[name] += count

    def add_clips(self, logits: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor) -> None:
        """Adds what `logged_numbers` says; does not wait for the device."""
        numbers = logged_numbers(logits.detach(), labels, loss.detach())
        values = torch.stack([value.to(self.place).double() for value in numbers.values()])
        self.total.over_clips += values
        self.recent.over_clips += values

    def enough_clips(self, steps: int) -> bool:
        """Do the recent steps have more than half of the clips that so many steps usually have?

        The last batch of an epoch may be of two clips, and bad videos leave batches without any.
        """
        usual = self.total.counts["clips"] / self.total.counts["steps"]
        return 2 * self.recent.counts["clips"] > steps * usual

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Means over clips, times in seconds a step. Waits for the device and all processes."""
        clips, steps, data_time, copy_time, seconds = sums.counts.values()
        means = (distributed.all_reduce_sum(sums.over_clips) / clips).tolist()
        metrics = {
            f"train/{name}": 100 * mean if name.startswith("top") else mean
            for name, mean in zip(self.names, means, strict=True)
        }
        metrics |= {
            "time/data": data_time / steps,
            "time/copy": copy_time / steps,
            "time/compute": (seconds - data_time - copy_time) / steps,
            "time/step": seconds / steps,
            "clips_per_s": clips / seconds,
            "frames_per_s": clips * self.clip_len / seconds,
        }
        if self.clips_per_s_at_peak:
            metrics["utilization"] = 100 * metrics["clips_per_s"] / self.clips_per_s_at_peak
        memory = peak_memory_gb(self.device)
        return metrics | ({"memory_gb": memory} if memory else {})

    def seconds_a_step(self) -> float:
        """Of the epoch in hand."""
        return self.total.counts["time"] / self.total.counts["steps"]

    def state_dict(self) -> list[dict[str, Any]]:
        """All processes ask for it together."""
        return [self.total.state_dict(), self.recent.state_dict()]


def timed(items: Iterable[T]) -> Iterator[tuple[float, T]]:
    """Each item behind the seconds that it took to come."""
    began = time.perf_counter()
    for item in items:
        yield time.perf_counter() - began, item
        began = time.perf_counter()


def peak_memory_gb(device: torch.device) -> float | None:
    """The most that was held at once: of the GPU in this epoch, else of this process.

    None where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
