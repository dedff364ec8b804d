"""Parameters, cost, time and memory of every network, side by side in one run.

    python benchmarks/models.py [--batch-size 1] [--clip-len 16] [--crop-size 224] [--only i3d s3d]
    python benchmarks/models.py --save        # also as JSON, into benchmarks/results

Times are medians of interleaved repeats; the ratios are to the plain way of running the same
network: float32 in contiguous memory. On a CPU bfloat16 is measured only where the CPU computes in
it. "MB" is what a training step in channels-last float32 needs beyond weights and gradients.
"""

import argparse
import contextlib
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from benchmarks.apart import apart, clock, megabytes_since, peak_megabytes
from models import build_model
from utils.classifier import to_channels_last

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "i3d": lambda: build_model("i3d"),
    "s3d": lambda: build_model("s3d"),
    "torchvision s3d": lambda: torchvision.models.video.s3d(),
    "resnet3d c2d": lambda: build_model("resnet3d", inflate="none"),
    "resnet3d i3d": lambda: build_model("resnet3d"),
    "resnet3d i3d nl5": lambda: build_model("resnet3d", non_local=5),
    "slowfast": lambda: build_model("slowfast"),
    "torchvision r3d_18": lambda: torchvision.models.video.r3d_18(),
    "x3d m": lambda: build_model("x3d"),
    "tsn resnet50": lambda: build_model("tsn", backbone="resnet50"),
}
# with AMX, oneDNN takes minutes for the gradient of r3d_18 in bfloat16
USUAL = [name for name in NETWORKS if name != "torchvision r3d_18"]
FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels last": torch.channels_last_3d,
}
PASSES = {"forward": False, "step": True}  # is there a backward pass?
SMALLEST = (2, 3, 8, 32, 32)  # a batch that every network of ours can train on


def multiply_adds(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Of one view, in units of 10^9, counted without computing."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval().to("meta")(torch.empty(1, *shape[1:], device="meta"))
    return counter.get_total_flops() / 2e9


def prepared(
    name: str,
    shape: tuple[int, ...],
    device: str = "cpu",
    memory_format: torch.memory_format = torch.channels_last_3d,
) -> tuple[nn.Module, torch.Tensor]:
    """A network that trains, and clips (N, C, T, H, W) of noise."""
    torch.manual_seed(0)
    network = NETWORKS[name]().to(device).train()
    if memory_format == torch.channels_last_3d:
        network = to_channels_last(network)
    return network, torch.randn(shape).to(device, memory_format=memory_format)


def run_once(
    network: nn.Module,
    clip: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    backward: bool = True,
) -> None:
    autocast = torch.autocast(clip.device.type, dtype, enabled=dtype == torch.bfloat16)
    with autocast, torch.set_grad_enabled(backward):
        logits = network(clip)
    if backward:
        logits.float().square().sum().backward()
        network.zero_grad(set_to_none=True)


def step_cost(name: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Of a training step on the CPU, in a process that has done nothing else, see `apart`."""
    network, clip = prepared(name, shape)
    with contextlib.suppress(RuntimeError):  # code comes into memory, if not all of torchvision's
        run_once(network, torch.randn(SMALLEST).to(memory_format=torch.channels_last_3d))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = peak_megabytes()
    run_once(network, clip)
    megabytes = megabytes_since(before)
    started = clock()
    run_once(network, clip)
    return {"seconds": clock() - started, "MB": megabytes}


def step_megabytes(name: str, shape: tuple[int, ...], device: str) -> float:
    if device == "cpu":
        return apart(step_cost, name, shape, threads=torch.get_num_threads())["MB"]
    network, clip = prepared(name, shape, device)
    run_once(network, clip)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run_once(network, clip)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def measure(name: str, opts: argparse.Namespace) -> list[dict]:
    """The rows of one network, one for each way of running it."""
    shape = (opts.batch_size, 3, opts.clip_len, opts.crop_size, opts.crop_size)
    in_hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    dtypes = {"float32": torch.float32}
    if opts.device != "cpu" or in_hardware:
        dtypes["bfloat16"] = torch.bfloat16
    work, ways = {}, [(dtype, layout) for layout in FORMATS for dtype in dtypes]
    for dtype, layout in ways:
        network, clip = prepared(name, shape, opts.device, FORMATS[layout])
        for label, backward in PASSES.items():
            run = partial(run_once, network, clip, dtypes[dtype], backward)
            work[f"{label} {dtype} {layout}"] = run
    sync = (lambda: None) if opts.device == "cpu" else torch.cuda.synchronize
    seconds = results.interleaved(work, opts.repeats, sync=sync)
    network = NETWORKS[name]()
    of_network = {
        "network": name,
        "M parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "G multiply-adds": multiply_adds(network, shape),
        "MB": step_megabytes(name, shape, opts.device),
    }
    rows = []
    for dtype, layout in ways:
        row = of_network | {"numbers": dtype, "memory": layout}
        for label in PASSES:
            taken, plain = (
                seconds[f"{label} {dtype} {layout}"],
                seconds[f"{label} float32 contiguous"],
            )
            row |= {
                f"{label} s": statistics.median(taken),
                f"{label} ratio": results.ratio(taken, plain),
            }
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=results.positive, default=1)
    parser.add_argument("--clip-len", type=results.positive, default=16)
    parser.add_argument("--crop-size", type=results.positive, default=224)
    parser.add_argument("--repeats", type=results.positive, default=5)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=USUAL)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    results.add_save(parser)
    opts = parser.parse_args()
    rows = []
    for name in opts.only:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows += measure(name, opts)
    shape = f"{opts.batch_size} x {opts.clip_len} x {opts.crop_size} x {opts.crop_size}"
    print(f"clips of {shape} on {opts.device}, torch {torch.__version__}")
    results.finish("models", opts, rows)


if __name__ == "__main__":
    main()
