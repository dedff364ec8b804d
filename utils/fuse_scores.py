"""Add up the scores of two streams, such as RGB and optical flow, of the same videos.

    python utils/fuse_scores.py A.npz B.npz [--weights 1 1.5] [--out FUSED]

A.npz and B.npz are scores.npz of two evaluations. TSN weighs the logits of RGB and flow 1 : 1.5,
I3D 1 : 1: evaluate both with --average logits, or with --protocol tsn or i3d. FUSED becomes a
folder of files like those of an evaluation.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import UserError
from utils.scores import Scores, aligned, load_scores

if TYPE_CHECKING:
    import torch


def fuse(a: Scores, b: Scores, weights: tuple[float, float]) -> tuple["torch.Tensor", dict]:
    """The weighted mean of both (videos, classes), whose order is that of the sum; its result."""
    import torch  # here and below, since --help need not wait for it

    from utils.evaluator import result_of

    fused = (weights[0] * a.scores + weights[1] * b.scores) / sum(weights)
    kinds = {"scores": "softmax scores", "logits": "logits"}
    protocol = (
        f"{weights[0]:g} x and {weights[1]:g} x the averaged {kinds[a.average]} of two runs, the "
        f"first: {a.protocol}; the second: {b.protocol}"
    )
    fused, labels = torch.from_numpy(fused), torch.from_numpy(a.labels)
    num_skipped = max(a.num_skipped, b.num_skipped)  # the same videos, where the lists were
    return fused, result_of(fused, labels, protocol, a.average, num_skipped)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path, metavar="A.npz")
    parser.add_argument("b", type=Path, metavar="B.npz")
    parser.add_argument(
        "--weights", nargs=2, type=float, default=(1.0, 1.0), metavar=("A", "B"), help="(1 1)"
    )
    parser.add_argument("--out", type=Path, metavar="FUSED", help="a new folder for the result")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where the files do not belong together or an option is of no use."""
    args = build_parser().parse_args(argv)
    import torch

    from utils.evaluator import describe, result_of, write_results

    path_a, path_b = args.a, args.b
    if not (min(args.weights) >= 0 < sum(args.weights) < float("inf")):
        raise UserError("--weights must be two numbers, none below 0 and one above")
    if args.out and args.out.exists():
        raise UserError(f"{args.out} exists; choose another --out, or remove it")
    a = load_scores(path_a)
    b = aligned(a, load_scores(path_b), path_a, path_b)
    if a.average != b.average:
        raise UserError(
            f"{path_a} holds averaged {a.average} and {path_b} {b.average}, which have no sum; "
            "evaluate both with the same --average"
        )
    fused, result = fuse(a, b, args.weights)
    labels = torch.from_numpy(a.labels)
    for path, one in ((path_a, a), (path_b, b)):
        how = one.protocol, one.average, one.num_skipped
        alone = result_of(torch.from_numpy(one.scores), labels, *how)
        print(f"{path}: {describe(alone)}")
    print(f"both: {describe(result)}")
    if args.out:
        args.out.mkdir(parents=True)
        write_results(args.out, result, fused, labels, a.names, a.class_names)
        print(f"written: {args.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a full disk, a folder that may not be written
        sys.exit(f"error: {error.filename or 'the result'}: {error.strerror}")
