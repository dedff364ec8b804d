"""X3D's depthwise convolutions, which it computes as 2-D ones, beside torch's own 3-D ones.

    python benchmarks/depthwise.py [--repeats 5]

One clip of X3D-M on the CPU, channels last. Ratios are medians of interleaved repeats, to what
torch takes in the same memory format, and in contiguous memory: below 1 is faster.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from models.layers import Size
from models.x3d import DepthwiseConv3d

SHAPES: dict[str, tuple[int, Size, int, int]] = {  # channels, kernel, stride, pixels a side
    "stem": (24, (5, 1, 1), 1, 112),
    "res2, first": (54, (3, 3, 3), 2, 112),
    "res2": (54, (3, 3, 3), 1, 56),
    "res3": (108, (3, 3, 3), 1, 28),
    "res4": (216, (3, 3, 3), 1, 14),
    "res5": (432, (3, 3, 3), 1, 7),
}


def run(convolve: Callable[[torch.Tensor], torch.Tensor], clip: torch.Tensor, train: bool) -> None:
    with torch.set_grad_enabled(train):
        maps = convolve(clip)
    if train:
        maps.backward(torch.ones_like(maps))


def measure(name: str, repeats: int) -> dict[str, str | float]:
    channels, kernel_size, stride, side = SHAPES[name]
    ours = DepthwiseConv3d(channels, kernel_size, stride)
    torchs = partial(nn.Conv3d.forward, ours)
    clip = torch.randn(1, channels, 16, side, side).requires_grad_()
    last = clip.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    ways = {"ours": (ours, last), "channels last": (torchs, last), "contiguous": (torchs, clip)}
    row: dict[str, str | float] = {"convolution": name}
    for work, train in ("forward", False), ("step", True):
        calls = {way: partial(run, *what, train) for way, what in ways.items()}
        seconds = results.interleaved(calls, repeats)
        for way in ("channels last", "contiguous"):
            row[f"{work}, of torch's {way}"] = results.ratio(seconds["ours"], seconds[way])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=results.positive, default=5)
    results.add_save(parser)
    opts = parser.parse_args()
    rows = [measure(name, opts.repeats) for name in SHAPES]
    results.finish("depthwise", opts, rows)


if __name__ == "__main__":
    main()
