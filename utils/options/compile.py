"""torch.compile, tried before it is relied on."""

import torch
from torch import nn

from config import UserError, refuse
from utils import distributed


def compiled(classifier: nn.Module, device: torch.device) -> nn.Module:
    """The same module, compiled when it is first called.

    Raises:
        UserError: this machine cannot compile, such as for want of a C++ compiler, or the module
            is to run on several GPUs, which one process does not compile for.
    """
    several = distributed.uses_all_gpus(device)
    refuse(several, "--compile on several GPUs needs torchrun; --device cuda:0 takes one of them")
    try:
        torch.compile(lambda x: 2 * x.sin())(torch.ones(8, device=device))
    except Exception as error:  # torch has no common error for what a compiler may lack
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--compile does not work on this machine: {reason}") from None
    if device.type == "cpu":
        lay_out_small_kernels(classifier)
    return torch.compile(classifier)  # pyrefly: ignore[bad-return]  # torch: a module stays one


def lay_out_small_kernels(module: nn.Module) -> None:
    """In a channels-last network, gives kernels of 1x1x1 the strides of channels last, too.

    They fit either format, and usually have the contiguous strides. The compiler tells the layout
    of what a convolution computes by them, and then copies between the two: of I3D on a CPU, that
    took as long as all the rest. Not on a GPU, where an optimizer is fastest with the strides that
    gradients have.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    kernels = [p for p in module.parameters() if p.dim() in formats]
    if all(p.is_contiguous(memory_format=formats[p.dim()]) for p in kernels):
        for p in kernels:  # contiguous() would leave them as they are
            p.data = p.data.to(memory_format=formats[p.dim()])
