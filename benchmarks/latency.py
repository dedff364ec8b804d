"""How long one clip takes on the CPU, and what faster ways to run a network gain and change.

    python benchmarks/latency.py [--only i3d "tsn resnet50"] [--ways bf16 compile onnxruntime]
    python benchmarks/latency.py --clip-len 16 --crop-size 112      # instead of the recipes' own
    python benchmarks/latency.py --quick           # small clips, few repeats, nothing compiled
    python benchmarks/latency.py --save            # also as JSON, into benchmarks/results

Batch 1, evaluation, no gradients; by default clips as long and large as each network's recipe has
them. "float32 s" is eager mode, channels last. Under the other names stands how many times
as long they take, from medians of interleaved repeats, torchvision's networks at the same input;
under "differs" the largest change of a logit, as a share of the largest logit.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from benchmarks.apart import clock
from benchmarks.models import prepared
from config import UserError
from utils.actions import export
from utils.options.compile import compiled
from utils.recipes import find_recipe

OURS = ["i3d", "s3d", "resnet3d i3d", "resnet3d i3d nl5", "tsn resnet50"]
RIVALS = ["torchvision s3d", "torchvision r3d_18"]
QUICK = {"clip_len": 8, "crop_size": 64, "repeats": 2, "ways": ["bf16", "onnxruntime"]}
Run = Callable[[], torch.Tensor]


class Missing(Exception):
    """A few words: why something cannot be measured here."""


def in_bf16(network: nn.Module, clip: torch.Tensor) -> Run:
    def run() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(clip).float()

    return run


def with_compile(network: nn.Module, clip: torch.Tensor) -> Run:
    try:
        fast = compiled(network, clip.device)
    except UserError as error:
        print(error, file=sys.stderr)
        raise Missing("cannot compile here") from None
    return lambda: fast(clip)


def with_onnxruntime(network: nn.Module, clip: torch.Tensor) -> Run:
    try:
        export.check_packages(".onnx")
    except UserError as error:
        print(error, file=sys.stderr)
        raise Missing("not installed") from None
    import onnxruntime

    batch = torch.cat([clip, clip]).contiguous()  # two, as export has it
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network, (batch,), dynamic_shapes=shapes)
    content, _ = export.to_onnx(program, batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = {"clips": clip.contiguous().numpy()}
    return lambda: torch.from_numpy(session.run(["logits"], inputs)[0])


WAYS = {"bf16": in_bf16, "compile": with_compile, "onnxruntime": with_onnxruntime}


def rival(name: str, shape: tuple[int, ...]) -> Run:
    """A network of torchvision, channels last as ours."""
    network, clip = prepared(name, shape)
    network.eval()
    try:
        network(clip)
    except RuntimeError:  # its S3D takes 16 frames of 224 x 224 at least
        raise Missing("input too small") from None
    return lambda: network(clip)


def input_shape(name: str, clip_len: int | None, crop_size: int | None) -> tuple[int, ...]:
    """(1, C, T, H, W), the recipe's where nothing else is asked for."""
    recipe = find_recipe(name.split()[0], "kinetics400", "scratch")
    side = crop_size or recipe.crop_size
    return 1, 3, clip_len or recipe.clip_len, side, side


@torch.no_grad()
def measure(name: str, opts: argparse.Namespace) -> dict:
    """The row of one network."""
    shape = input_shape(name, opts.clip_len, opts.crop_size)
    network, clip = prepared(name, shape)
    try:
        network(clip)  # in training mode: batch norm is not the identity any more
    except (UserError, RuntimeError, ValueError) as error:
        sys.exit(f"{name} cannot run on clips of {shape[2:]}: {error}")
    network.eval()
    makers = {other: (rival, other, shape) for other in RIVALS}
    makers |= {way: (WAYS[way], network, clip) for way in opts.ways}
    runs, missing = {"float32": lambda: network(clip)}, {}
    for way, (make, *args) in makers.items():
        try:
            runs[way] = make(*args)
        except Missing as reason:
            missing[way] = str(reason)
    seconds = results.interleaved(runs, opts.repeats, clock)
    expected = network(clip)
    row = {"network": name, "input": "x".join(map(str, shape[2:]))}
    row["float32 s"] = statistics.median(seconds["float32"])
    for way in makers:
        row[way] = missing.get(way) or results.ratio(seconds[way], seconds["float32"])
        if way in opts.ways and way in runs:
            change = (runs[way]() - expected).abs().max() / expected.abs().max()
            row[f"{way} differs"] = change.item()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=OURS, default=OURS)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--clip-len", type=results.positive, help="frames (default: the recipe's)")
    parser.add_argument("--crop-size", type=results.positive, help="pixels (default: the recipe's)")
    parser.add_argument("--repeats", type=results.positive, default=7)
    parser.add_argument("--threads", type=results.positive, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="small clips, few repeats")
    results.add_save(parser)
    opts = parser.parse_args()
    if opts.quick:
        parser.set_defaults(**QUICK)
        opts = parser.parse_args()
    torch.set_num_threads(opts.threads)
    rows = []
    for name in opts.only:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows.append(measure(name, opts))
    print(f"one clip, {opts.threads} threads, torch {torch.__version__}")
    results.finish("latency", opts, rows)


if __name__ == "__main__":
    main()
