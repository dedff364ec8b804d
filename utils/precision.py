"""Which precision a run computes in: bfloat16 where it is fast and, on a CPU, right."""

import logging
import warnings

import torch
from torch import nn

from config import UserError

log = logging.getLogger("video")


def choose_precision(
    requested: str, device: torch.device, model: nn.Module, clip_shape: tuple[int, ...]
) -> str:
    """ "fp32", "tf32", "bf16" or "fp16" for a run; tells torch whether to use TF32.

    Args:
        requested: one of them or "auto".
        model: the network, still on the CPU.
        clip_shape: (N, C, T, H, W) of a training batch.

    Raises:
        UserError: the device does not have what was requested.
    """
    if device.type == "cuda":
        if requested in ("auto", "bf16"):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            if not has_bf16:
                log.info("precision: float32, because this GPU does not compute in bfloat16")
            requested = "bf16" if has_bf16 else "fp32"
        # what autocast leaves in float32 may be rounded, too, unless float32 was asked for
        allow_tf32(requested != "fp32")
        return requested
    if requested in ("tf32", "fp16"):
        raise UserError(
            f"--precision {requested} is for GPUs of CUDA; on {device.type} there are fp32 and bf16"
        )
    if device.type == "mps":
        return "bf16" if requested == "bf16" else "fp32"
    if requested == "fp32" or (requested == "auto" and not cpu_is_fast_in_bf16()):
        return "fp32"
    from utils.options.bf16_on_cpu import wrong_layers

    wrong = wrong_layers(model, clip_shape)
    if wrong:
        log.info(
            f"precision: float32, because bfloat16 gives wrong gradients on this CPU in "
            f"{len(wrong)} convolution shapes of this network, {wrong[0]} the first"
        )
        return "fp32"
    return "bf16"


def allow_tf32(allowed: bool) -> None:
    """In products and convolutions.

    By torch's older functions, which set what the newer ones would: torch.compile reads both in
    some releases, and fails where only the newer ones were used (pytorch/pytorch#166387).
    """
    warnings.filterwarnings("ignore", "Please use the new API settings to control TF32")
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def cpu_is_fast_in_bf16() -> bool:
    """Does this CPU have AMX? AVX-512 BF16 alone takes 1.1 of the time that I3D takes in float32.

    Measured by benchmarks/models.py on an Emerald Rapids Xeon that hides its AMX from programs.
    """
    return torch.cpu._is_amx_tile_supported()
