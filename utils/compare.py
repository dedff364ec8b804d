"""Is the difference of two runs on the same videos more than chance?

    python utils/compare.py A.npz B.npz [--group-regex RE]

A.npz and B.npz are scores.npz of two evaluations. The videos of one group, such as the clips that
UCF101 cuts from one recording, are alike and are drawn together; --group-regex finds the group in
the path of a video. What is tested is the choice of the videos: how much another seed of the
training would change the difference, only more runs can say.
"""

import argparse
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

import numpy as np

from config import UserError, group_of
from utils.scores import Scores, load_scores

NUM_DRAWS = 10_000
LEVEL = 0.05


def aligned(a: Scores, b: Scores, path_a: Path, path_b: Path) -> Scores:
    """`b` in the order and with the names of `a`.

    Raises:
        UserError: they are not of the same classes and videos.
    """
    if a.class_names != b.class_names:
        pairs = zip(a.class_names, b.class_names, strict=False)
        differ = [f"'{x}' is '{y}'" for x, y in pairs if x != y]
        what = differ[0] if differ else f"{len(a.class_names)} are {len(b.class_names)}"
        raise UserError(f"{path_a} and {path_b} are not of the same classes: {what}")
    names_a, names_b = a.names, b.names
    if set(names_a).isdisjoint(names_b):  # the same videos in another place?
        names_a, names_b = inside_folder(names_a), inside_folder(names_b)
    for path, names, others in ((path_a, names_a, names_b), (path_b, names_b, names_a)):
        only = sorted(set(names) - set(others))
        if only:
            raise UserError(
                f"{path_a} and {path_b} are not of the same videos: {len(only)} are only in "
                f"{path}, the first is {only[0]}"
            )
    places = {name: i for i, name in enumerate(names_b)}
    order = [places[name] for name in names_a]
    b = replace(b, scores=b.scores[order], labels=b.labels[order], names=a.names)
    wrong = np.flatnonzero(a.labels != b.labels)
    if len(wrong):
        first = wrong[0]
        raise UserError(
            f"{path_a} and {path_b} do not agree on the classes of {len(wrong)} videos: "
            f"{a.names[first]} is '{a.class_names[a.labels[first]]}' in the one and "
            f"'{a.class_names[b.labels[first]]}' in the other"
        )
    return b


def inside_folder(names: list[str]) -> list[str]:
    """Paths relative to the innermost folder that holds them all."""
    folder = os.path.commonpath(map(os.path.abspath, names))
    return [os.path.relpath(name, folder) for name in names]


def find_groups(names: list[str], regex: re.Pattern[str] | None) -> list[str] | None:
    """The group of each name, see `group_of`; None where no name has any."""
    groups = {name: group_of(name, regex) for name in names}
    lacking = [name for name, group in groups.items() if group is None]
    if len(lacking) == len(groups):
        return None
    if lacking:
        finder = f"--group-regex {regex.pattern}" if regex else "the pattern of UCF101's names"
        raise UserError(
            f"{finder} finds groups, but none in '{lacking[0]}'; give a --group-regex that fits "
            "all, or '.*' for videos without groups"
        )
    return [str(groups[name]) for name in names]


def bootstrap_interval(gain: np.ndarray, groups: list[str]) -> tuple[float, float]:
    """The 95 % interval of the mean of `gain` where whole groups are drawn with replacement.

    Args:
        gain: (videos,), 1 where only the second run is right, -1 where only the first, else 0.
        groups: of the videos, at least two.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=gain)
    sizes = np.bincount(group)
    # groups with the same sum and size count alike: draw how many of each kind
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(sums), counts / len(sums), size=NUM_DRAWS)
    total_gain, total_size = (draws @ kinds).T
    low, high = np.quantile(total_gain / total_size, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def mcnemar(only_a: int, only_b: int) -> float:
    """How likely a difference at least as large is if each run is as often right alone (exact).

    Source: McNemar, 1947; the two-sided binomial test with p = 1/2.
    """
    n = only_a + only_b
    term, tail = 1, 0  # of whole numbers of any length: binomial coefficients from n over 0 on
    for k in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(2 * tail / 2**n, 1.0)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same videos; accuracies in percent."""

    top1: tuple[float, float]  # of both
    difference: float  # of the second run to the first
    interval: tuple[float, float]  # 95 %, of the difference
    only_a: int  # videos that the first run alone has right
    only_b: int
    p: float  # of McNemar's exact test


def compare_runs(a: Scores, b: Scores, groups: list[str] | None) -> Comparison:
    """How much better `b` is, where videos of a group, or single ones, are drawn together."""
    right_a, right_b = (one.scores.argmax(axis=1) == one.labels for one in (a, b))
    gain = right_b.astype(float) - right_a
    low, high = bootstrap_interval(gain, groups or list(map(str, range(len(gain)))))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    top1 = 100 * right_a.mean(), 100 * right_b.mean()
    interval, p = (100 * low, 100 * high), mcnemar(only_a, only_b)
    return Comparison(top1, 100 * gain.mean(), interval, only_a, only_b, p)


def conclusion(found: Comparison, path_a: Path, path_b: Path) -> str:
    """One sentence; a difference counts where the interval and the test say so."""
    low, high = found.interval
    if low <= 0 <= high or found.p >= LEVEL:
        return (
            f"conclusion: the difference of {found.difference:+.1f} points may well be chance; "
            "neither run is shown to be better"
        )
    better, worse = (path_b, path_a) if found.difference > 0 else (path_a, path_b)
    least, most = sorted((abs(low), abs(high)))
    return (
        f"conclusion: {better} is better than {worse} by {abs(found.difference):.1f} points "
        f"({least:.1f} to {most:.1f}) on videos like these"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path, metavar="A.npz")
    parser.add_argument("b", type=Path, metavar="B.npz")
    parser.add_argument(
        "--group-regex", metavar="RE", help="what the path of a video says of its group (UCF101's)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where the files do not belong together or an option is of no use."""
    args = build_parser().parse_args(argv)
    try:
        regex = re.compile(args.group_regex) if args.group_regex else None
    except re.error as error:
        raise UserError(f"--group-regex is no regular expression: {error}") from None
    a = load_scores(args.a)
    b = aligned(a, load_scores(args.b), args.a, args.b)
    groups = find_groups(a.names, regex)
    if regex and groups is None:
        raise UserError(f"--group-regex {regex.pattern} finds nothing in '{a.names[0]}'")
    num_groups = len(set(groups or a.names))
    if num_groups < 2:
        raise UserError(f"the {len(a.names)} videos are one group, which has no spread")
    found = compare_runs(a, b, groups)
    print(f"A: {args.a}: top-1 {found.top1[0]:.1f} %; {a.protocol}")
    print(f"B: {args.b}: top-1 {found.top1[1]:.1f} %; {b.protocol}")
    low, high = found.interval
    drawn = f"{num_groups} groups" if groups else "single videos"
    print(
        f"B - A: {found.difference:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f} "
        f"({NUM_DRAWS} draws of {drawn})"
    )
    print(
        f"only A right {found.only_a}, only B right {found.only_b} of {len(a.names)} videos: "
        f"McNemar's exact p = {found.p:.2g}"
    )
    print(conclusion(found, args.a, args.b))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
