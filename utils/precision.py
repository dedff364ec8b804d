"""Which precision a run computes in: bfloat16 where it is fast and right."""

import torch
from torch import nn

from config import UserError


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
        from utils.options.gpu_precision import on_gpu

        chosen = on_gpu(requested)
    else:
        chosen = elsewhere(requested, device.type)
    if chosen in ("bf16", "fp16") and device.type != "mps":
        from utils.options.half_layers import where_right

        chosen = where_right(chosen, model, clip_shape, device)
    if device.type == "cuda":
        from utils.options.gpu_precision import allow_tf32

        # what autocast leaves in float32 may be rounded, too, unless float32 was asked for
        allow_tf32(chosen != "fp32")
    return chosen


def elsewhere(requested: str, kind: str) -> str:
    if requested in ("tf32", "fp16"):
        raise UserError(
            f"--precision {requested} is for GPUs of CUDA; on {kind} there are fp32 and bf16"
        )
    fast = requested == "auto" and kind == "cpu" and cpu_is_fast_in_bf16()
    return "bf16" if requested == "bf16" or fast else "fp32"


def cpu_is_fast_in_bf16() -> bool:
    """Does it multiply bfloat16 faster than float32: by AMX, or by AVX-512 BF16 if AMD made it?

    By benchmarks/models.py a training step takes 0.38 to 0.58 of the time on an EPYC, and 1.1 on an
    Emerald Rapids Xeon that hides its AMX from programs.
    """
    from utils.report.machine import cpu_name

    of_amd = torch.cpu._is_avx512_bf16_supported() and "AMD" in cpu_name()
    return of_amd or torch.cpu._is_amx_tile_supported()
