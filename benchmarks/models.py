"""Parameters, cost, time and memory of every network, side by side in one run.

    python benchmarks/models.py [--batch-size 1] [--clip-len 16] [--crop-size 224] [--only i3d s3d]

Times are medians of interleaved repeats, as ratios to the plain way of running the same network:
float32 in contiguous memory. On a CPU bfloat16 is measured only where the CPU computes in it.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models import build_model
from utils.normalize import to_channels_last

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "i3d": lambda: build_model("i3d"),
    "s3d": lambda: build_model("s3d"),
    "torchvision s3d": lambda: torchvision.models.video.s3d(),
    "resnet3d c2d": lambda: build_model("resnet3d", inflate="none"),
    "resnet3d i3d": lambda: build_model("resnet3d"),
    "resnet3d i3d nl5": lambda: build_model("resnet3d", non_local=5),
    "torchvision r3d_18": lambda: torchvision.models.video.r3d_18(),
    "tsn resnet50": lambda: build_model("tsn", backbone="resnet50"),
}
FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels last": torch.channels_last_3d,
}


def multiply_adds(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Of one view, in units of 10^9, counted without computing."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval().to("meta")(torch.empty(1, *shape[1:], device="meta"))
    return counter.get_total_flops() / 2e9


def run_once(network: nn.Module, clip: torch.Tensor, dtype: torch.dtype, backward: bool) -> None:
    autocast = torch.autocast(clip.device.type, dtype, enabled=dtype == torch.bfloat16)
    with autocast, torch.set_grad_enabled(backward):
        logits = network(clip)
    if backward:
        logits.float().square().sum().backward()
        network.zero_grad(set_to_none=True)


def seconds(network: nn.Module, clip: torch.Tensor, dtype: torch.dtype, backward: bool) -> float:
    if clip.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    run_once(network, clip, dtype, backward)
    if clip.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak_megabytes(name: str, opts: argparse.Namespace) -> float:
    """Of one training step in channels-last float32, beyond what imports take; on a CPU in a
    process of its own, because a process never tells what it once needed."""
    if opts.device == "cuda":
        network, clip = prepared(name, opts, torch.channels_last_3d)
        torch.cuda.reset_peak_memory_stats()
        run_once(network, clip, torch.float32, backward=True)
        return torch.cuda.max_memory_allocated() / 1e6
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_resident_megabytes() -> float:
    """Of this process; getrusage would count its parent's, too, which exec does not reset."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1e3


def prepared(
    name: str, opts: argparse.Namespace, memory_format: torch.memory_format
) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = NETWORKS[name]().to(opts.device).train()
    if memory_format == torch.channels_last_3d:
        network = to_channels_last(network)
    clip = torch.randn(opts.batch_size, 3, opts.clip_len, opts.crop_size, opts.crop_size)
    return network, clip.to(opts.device, memory_format=memory_format)


def measure(name: str, opts: argparse.Namespace) -> None:
    """Prints the rows of one network."""
    dtypes = [torch.float32]
    in_hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if opts.device == "cuda" or in_hardware:
        dtypes.append(torch.bfloat16)
    ways = {
        (label, dtype): prepared(name, opts, memory_format)
        for label, memory_format in FORMATS.items()
        for dtype in dtypes
    }
    times = {(way, backward): [] for way in ways for backward in (False, True)}
    for i in range(opts.repeats + 1):
        for way, backward in times:
            taken = seconds(*ways[way], way[1], backward)
            if i:  # the first round warms up
                times[way, backward].append(taken)
    medians = {key: statistics.median(values) for key, values in times.items()}
    network = NETWORKS[name]()
    shape = (1, 3, opts.clip_len, opts.crop_size, opts.crop_size)
    million = sum(p.numel() for p in network.parameters()) / 1e6
    print(
        f"{name}: {million:.2f} M parameters, {multiply_adds(network, shape):.1f} G multiply-adds "
        f"a view, {peak_megabytes(name, opts):.0f} MB a training step"
    )
    for way in ways:
        row = f"  {str(way[1]).removeprefix('torch.'):9} {way[0]:14}"
        for backward, label in ((False, "forward"), (True, "forward + backward")):
            plain = medians[("contiguous", torch.float32), backward]
            median = medians[way, backward]
            row += f" {label} {median:7.3f} s {median / plain:5.2f}"
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--clip-len", type=int, default=16)
    parser.add_argument("--crop-size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    opts = parser.parse_args()
    if opts.memory_of:
        network, clip = prepared(opts.memory_of, opts, torch.channels_last_3d)
        before = peak_resident_megabytes()
        run_once(network, clip, torch.float32, backward=True)
        print(peak_resident_megabytes() - before)
        return
    shape = f"{opts.batch_size} x {opts.clip_len} x {opts.crop_size} x {opts.crop_size}"
    print(f"clips of {shape} on {opts.device}, torch {torch.__version__}; seconds and their ratio")
    for name in opts.only:
        measure(name, opts)


if __name__ == "__main__":
    main()
