"""Add up the scores of two streams, such as RGB and optical flow, of the same videos.

    python utils/fuse_scores.py A B [--weights 1 1.5] [--out FUSED]

A and B are the scores.npz of two evaluations, or the NAME_splits.json of two series. TSN weighs
the logits of RGB and flow 1 : 1.5, I3D 1 : 1: evaluate both with --average logits, or with
--protocol tsn or i3d. FUSED becomes a folder of files like those of an evaluation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
from dataclasses import replace

from config import Parser, UserError
from utils.compare import aligned, load_side
from utils.scores import Scores


def fuse_streams(a: Scores, b: Scores, weights: tuple[float, float]) -> Scores:
    """The weighted mean of both, which ranks classes as their sum does."""
    kinds = {"scores": "softmax scores", "logits": "logits"}
    return replace(
        a,
        scores=(weights[0] * a.scores + weights[1] * b.scores) / sum(weights),
        protocol=f"{weights[0]:g} x and {weights[1]:g} x the averaged {kinds[a.average]} of two "
        f"runs, the first: {a.protocol}; the second: {b.protocol}",
        num_skipped=max(a.num_skipped, b.num_skipped),  # the same videos, where the lists were
    )


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument(
        "--weights", nargs=2, type=float, default=(1.0, 1.0), metavar=("A", "B"), help="(1 1)"
    )
    parser.add_argument("--out", type=Path, metavar="FUSED", help="a new folder for the result")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where the files do not belong together or an option is of no use."""
    args = build_parser().parse_args(argv)
    # here, since --help need not wait for torch
    from utils.results import describe, summarize_scores, write_results

    if not (min(args.weights) >= 0 < sum(args.weights) < float("inf")):
        raise UserError("--weights must be two numbers, none below 0 and one above")
    if args.out and args.out.exists():
        raise UserError(f"{args.out} exists; choose another --out, or remove it")
    a, b = load_side([args.a]), load_side([args.b])
    b = aligned(a, b, args.a, args.b)
    if a.average != b.average:
        raise UserError(
            f"{args.a} holds averaged {a.average} and {args.b} {b.average}, which have no sum; "
            "evaluate both with the same --average"
        )
    fused = fuse_streams(a, b, args.weights)
    for name, scores in ((args.a, a), (args.b, b), ("both", fused)):
        print(f"{name}: {describe(summarize_scores(scores))}")
    if args.out:
        write_results(args.out, fused, summarize_scores(fused))
        print(f"written: {args.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
