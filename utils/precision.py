"""Which precision a run computes in: bfloat16 where it is fast and, on a CPU, right."""

import copy
import hashlib
import json
import logging
import os
import platform
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from config import UserError

# relative error of a gradient: bfloat16 keeps 8 bits, so 4e-3 is usual, and a fault is 1 or inf
TOLERANCE = 2e-2
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
        precision = _on_gpu(requested)
        # what autocast leaves in float32 may be rounded, too, unless float32 was asked for
        allow_tf32(precision != "fp32")
        return precision
    if requested in ("tf32", "fp16"):
        raise UserError(f"--precision {requested} is for GPUs; on a CPU there are fp32 and bf16")
    if requested == "fp32" or (requested == "auto" and not cpu_is_fast_in_bf16()):
        return "fp32"
    wrong = wrong_layers(model, clip_shape)
    if wrong:
        log.info(
            f"precision: float32, because bfloat16 gives wrong gradients on this CPU in "
            f"{len(wrong)} "
            f"convolution shapes of this network, {wrong[0]} the first"
        )
        return "fp32"
    return "bf16"


def _on_gpu(requested: str) -> str:
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


def cpu_is_fast_in_bf16() -> bool:
    """Does this CPU have AMX? AVX-512 BF16 alone takes 1.1 of the time that I3D takes in float32.

    Measured by benchmarks/models.py on an Emerald Rapids Xeon that hides its AMX from programs.
    """
    return torch.cpu._is_amx_tile_supported()


def wrong_layers(model: nn.Module, clip_shape: tuple[int, ...]) -> list[str]:
    """The convolution shapes of `model` whose bfloat16 gradients disagree with float32 on this CPU.

    Some CPUs give wrong weight gradients for a few Conv3d shapes while the neighboring shapes are
    right, so the network's own shapes are tried, and the answer is kept in the user's cache folder.
    """
    convs = convolution_shapes(model, clip_shape)
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "video_classification_pytorch"
    )
    machine = (platform.machine(), _cpu_name(), torch.__version__, torch.get_num_threads())
    path = cache / f"bf16_{hashlib.sha256(repr((machine, convs)).encode()).hexdigest()[:16]}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        pass
    log.info(
        f"precision: comparing bfloat16 with float32 on {len(convs)} convolution shapes, once on "
        f"this machine"
    )
    wrong = [f"{conv[0]} of {conv[1]} with {conv[2]}" for conv in convs if not _agrees(*conv)]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wrong))
    except OSError as error:
        log.info(
            f"precision: the comparison will be repeated, {path} cannot be written "
            f"({error.strerror})"
        )
    return wrong


def convolution_shapes(model: nn.Module, clip_shape: tuple[int, ...]) -> list[tuple]:
    """Distinct (function, input shape, weight shape, stride ...) called, without computing."""
    calls = _Calls()
    with calls:
        copy.deepcopy(model).to("meta")(torch.empty(clip_shape, device="meta"))
    return list(dict.fromkeys(calls.found))


class _Calls(TorchFunctionMode):
    """Records convolutions as they are called: a Conv3d module may well call conv2d."""

    NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.conv3d):
            call = dict.fromkeys(("stride", "dilation", "groups"), 1) | {"padding": 0}
            call |= dict(zip(self.NAMES, args, strict=False)) | kwargs
            shapes = (tuple(call[name].shape) for name in ("input", "weight"))
            how = (
                value if isinstance(value, int) else tuple(value)
                for value in map(call.get, self.NAMES[3:])
            )
            self.found.append((func.__name__, *shapes, *how))
        return func(*args, **kwargs)


def _agrees(function: str, shape: tuple, weight_shape: tuple, *how) -> bool:
    generator = torch.Generator().manual_seed(0)
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape, generator=generator).bfloat16().contiguous(memory_format=memory_format)
    weight = (0.05 * torch.randn(weight_shape, generator=generator)).bfloat16()
    expected = _gradients(function, x.float(), weight.float(), *how)
    found = _gradients(function, x, weight, *how)
    return all(
        ((f - e).norm() < TOLERANCE * e.norm()).item() for f, e in zip(found, expected, strict=True)
    )


def _gradients(function: str, x: torch.Tensor, weight: torch.Tensor, *how) -> list[torch.Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = getattr(F, function)(x, weight, None, *how)
    # a gradient of ones would hide sums that cancel; this one is exact in bfloat16
    ramp = torch.linspace(-1, 1, out.shape[1], dtype=out.dtype)
    (out * ramp.view(1, -1, *[1] * (out.dim() - 2))).sum().backward()
    return [x.grad.float(), weight.grad.float()]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), ""
    )
