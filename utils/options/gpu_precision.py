"""What GPUs compute in."""

import logging
import warnings

import torch

log = logging.getLogger("video")


def on_gpu(requested: str) -> str:
    if requested not in ("auto", "bf16"):
        return requested
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    log.info("precision: float32, because this GPU does not compute in bfloat16")
    return "fp32"


def allow_tf32(allowed: bool) -> None:
    """In products and convolutions.

    By torch's older functions, which set what the newer ones would: torch.compile reads both in
    some releases, and fails where only the newer ones were used (pytorch/pytorch#166387).
    """
    warnings.filterwarnings("ignore", "Please use the new API settings to control TF32")
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
