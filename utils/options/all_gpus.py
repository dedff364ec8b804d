"""One process that computes on all GPUs it sees."""

import logging

import torch
from torch import nn

log = logging.getLogger("video")


def on_all_gpus(classifier: nn.Module) -> nn.Module:
    """The module, each of whose calls shares its clips among the GPUs."""
    count = torch.cuda.device_count()
    log.info(
        f"{count} GPUs in one process: torchrun --nproc_per_node={count}, a process for each, is "
        "faster"
    )
    # each call has threads of its own, and cuDNN keeps the kernels that it has tried by thread: it
    # would try them at every step anew, for seconds
    torch.backends.cudnn.benchmark = False
    for i, generator in enumerate(torch.cuda.default_generators):
        generator.manual_seed(torch.initial_seed() + i)  # else all shares have the same dropout
    return nn.DataParallel(classifier)
