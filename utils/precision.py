"""Which precision a run computes in: bfloat16 where it is fast and right."""

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
    chosen = on_gpu(requested) if device.type == "cuda" else elsewhere(requested, device.type)
    if chosen in ("bf16", "fp16") and device.type != "mps":
        from utils.options.half_layers import where_right

        chosen = where_right(chosen, model, clip_shape, device)
    if device.type == "cuda":
        # what autocast leaves in float32 may be rounded, too, unless float32 was asked for
        allow_tf32(chosen != "fp32")
    return chosen


def on_gpu(requested: str) -> str:
    if requested not in ("auto", "bf16"):
        return requested
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    log.info("precision: float32, because this GPU does not compute in bfloat16")
    return "fp32"


def elsewhere(requested: str, kind: str) -> str:
    if requested in ("tf32", "fp16"):
        raise UserError(
            f"--precision {requested} is for GPUs of CUDA; on {kind} there are fp32 and bf16"
        )
    fast = requested == "auto" and kind == "cpu" and cpu_is_fast_in_bf16()
    return "bf16" if requested == "bf16" or fast else "fp32"


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
