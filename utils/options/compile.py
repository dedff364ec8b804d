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
    return torch.compile(classifier)  # pyrefly: ignore[bad-return]  # torch: a module stays one
