"""A step of training that leaves no trace, to see what it takes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from utils import distributed

# of a GPU whose memory is nearly full, as cuDNN and cuBLAS say it, and of torch on a CPU
OUT_OF_MEMORY = (
    "unable to find an engine to execute this computation",
    "_STATUS_ALLOC_FAILED",
    "can't allocate memory",
    "not enough memory",
)


def is_out_of_memory(error: Exception) -> bool:
    """Did it fail for want of memory?"""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    )


def step(classifier: nn.Module, clips: torch.Tensor, mixup: bool) -> None:
    """Forward and backward of `clips`, uint8 (N, T, H, W, C), as the trainer does it."""
    if mixup:
        clips = torch.lerp(clips.float(), clips.float(), 0.5)
    classifier(clips).sum().backward()


@contextlib.contextmanager
def without_trace(classifier: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Inside, the module to try: afterwards weights, batch norm and random numbers are as before.

    It is not compiled, which would take minutes for sizes that are not used again, and batch norm
    over several processes waits for none of them: each tries by itself.
    """
    buffers = [(buffer, buffer.clone()) for buffer in classifier.buffers()]
    plain = getattr(classifier, "_orig_mod", classifier)  # of torch.compile
    plain.train()
    for module in plain.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.eval()
    # a process of several leaves the GPUs of the others alone
    gpus = [device] if distributed.launched() else range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices=gpus if device.type == "cuda" else []):
            yield plain
    finally:
        for parameter in classifier.parameters():
            parameter.grad = None
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        forget_peak(device)


def forget_peak(device: torch.device) -> None:
    """From here on `peak_memory_gb` counts anew; of a process only Linux can do that."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what was tried in other sizes is of no use any more
        for gpu in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(gpu)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
