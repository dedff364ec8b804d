"""Batch norm's statistics measured for the weights as they are."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from utils import distributed


@torch.no_grad()
def measure_norms(
    classifier: nn.Module,
    batches: Iterable[distributed.Batch],
    num_batches: int,
    micro_batch: int,
    device: torch.device,
    frozen: list[nn.Module],
) -> None:
    """Replaces the running statistics by their plain average over training batches.

    Those of several processes are averaged over the shares of all. The running ones lag behind
    weights that still move. Dropout and `frozen` modules stay out of it. Source:
    video-nonlocal-net, which measures on 200 batches before each evaluation.
    """
    classifier.eval()
    fixed = {norm for module in frozen for norm in module.modules()}
    norms = [m for m in classifier.modules() if isinstance(m, _BatchNorm) and m not in fixed]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain average
        norm.train()
    # torch.compile would compile anew for each count of a plain average, until it gives up
    with torch.compiler.set_stance("force_eager"):
        for clips, *_ in islice(batches, num_batches):
            # none if all were bad, or are in the share of another process
            for part in clips.split(micro_batch) if len(clips) else ():
                classifier(part.to(device, non_blocking=True))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        if distributed.world_size() > 1:
            _average(norm)


def _average(norm: _BatchNorm) -> None:
    """Over the processes, each of which counts for the parts that it has seen."""
    statistics = dict(norm.named_buffers())
    num_batches = statistics.pop("num_batches_tracked")
    own = num_batches.clone()
    num_batches.copy_(distributed.all_reduce_sum(own))
    for statistic in statistics.values():
        statistic.copy_(distributed.all_reduce_sum(own * statistic) / num_batches)
