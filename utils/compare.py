"""Is the difference of two runs on the same videos more than chance?

    python utils/compare.py A B [--group-regex RE]
    python utils/compare.py A1 A2 A3 --to B1 B2 B3

Each is the scores.npz of an evaluation, or the NAME_splits.json of a series, whose test lists
count as one, as do several files before or after --to. The videos of one group, such as the clips
that UCF101 cuts from one recording, are alike and count as one observation; --group-regex finds
the group in the path of a video. What is tested is the choice of the videos: how much another seed
of the training would change the difference, only more runs can say.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from config import Parser, UserError, group_of, plural
from utils.scores import Scores, load_scores

NUM_DRAWS = 10_000
LEVEL = 0.05
SERIES, POOLED = "_splits.json", "_scores.npz"  # how the files of a series end


def load_side(paths: Sequence[Path]) -> Scores:
    """The scores in files of evaluations and series, as those of one test list.

    Raises:
        UserError: one is no such file, or they do not belong together.
    """
    files = [pooled_file(path) if path.suffix == ".json" else path for path in paths]
    return pool(list(map(load_scores, files)), files)


def pooled_file(series: Path) -> Path:
    """The scores of all test lists of a series, beside its NAME_splits.json."""
    file = series.with_name(series.name.removesuffix(SERIES) + POOLED)
    if not (series.name.endswith(SERIES) and file.exists()):
        raise UserError(
            f"{series} has no scores of a series beside it ({file.name}); the command of the "
            "series writes them once all splits are done, if no video is on two test lists"
        )
    return file


def pool(parts: Sequence[Scores], paths: Sequence[Path]) -> Scores:
    """Several test lists as one.

    Raises:
        UserError: they differ in classes or averaging, or a video comes twice.
    """
    first = parts[0]
    for part, path in zip(parts, paths, strict=True):
        check_classes(first, part, paths[0], path)
        if part.average != first.average:
            raise UserError(
                f"{paths[0]} holds averaged {first.average} and {path} {part.average}; evaluate "
                "both with the same --average"
            )
    names = [name for part in parts for name in part.names]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        where = ", ".join(
            str(p) for p, part in zip(paths, parts, strict=True) if name in part.names
        )
        raise UserError(f"{name} comes {times} times in {where}, and may count once")
    if len(parts) == 1:
        return first
    pieces = [part.protocol.split("; ") for part in parts]
    shared = [piece for piece in pieces[0] if all(piece in others for others in pieces)]
    own = ["; ".join(piece for piece in one if piece not in shared) for one in pieces]
    lists = f"{len(parts)} test lists as one: {' + '.join(own)}"
    return replace(
        first,
        scores=np.concatenate([part.scores for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        names=names,
        protocol="; ".join([*shared, lists]),
        num_skipped=sum(part.num_skipped for part in parts),
    )


def check_classes(a: Scores, b: Scores, path_a: Path | str, path_b: Path | str) -> None:
    """Raises UserError where the classes of the one are not those of the other."""
    if a.class_names != b.class_names:
        pairs = zip(a.class_names, b.class_names, strict=False)
        differ = [f"'{x}' is '{y}'" for x, y in pairs if x != y]
        what = differ[0] if differ else f"{len(a.class_names)} are {len(b.class_names)}"
        raise UserError(f"{path_a} and {path_b} are not of the same classes: {what}")


def aligned(a: Scores, b: Scores, path_a: Path | str, path_b: Path | str) -> Scores:
    """`b` in the order and with the names of `a`.

    Raises:
        UserError: they are not of the same classes and videos.
    """
    check_classes(a, b, path_a, path_b)
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
            f"{path_a} and {path_b} do not agree on the classes of {plural(len(wrong), 'video')}: "
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


def exact_p(sums: np.ndarray) -> float:
    """How likely a difference at least as large is if the runs could as well change places.

    The exact two-sided sign-flip test: within each group, the runs change places at random. Of
    single videos it is McNemar's exact test (1947).

    Args:
        sums: (groups,), how many more videos the second run has right than the first.
    """
    chances = np.ones(1)  # that the groups which go to the second run have a sum of 0, 1, ...
    for size in np.abs(sums[sums != 0]):
        stays, comes = np.pad(chances, (0, size)), np.pad(chances, (size, 0))
        chances = (stays + comes) / 2
    fewer = min(sums[sums > 0].sum(), -sums[sums < 0].sum())
    return float(min(2 * chances[: fewer + 1].sum(), 1))


def matching_interval(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean difference: all values that the same test does not reject.

    These lie between the quantiles of the means over random subsets of the groups, each group in
    or out by the toss of a coin (Hartigan, 1969). The whole range if the subset is empty: a few
    groups can show nothing.

    Args:
        sums: (groups,), as in `exact_p`.
        sizes: (groups,), videos in each.
    """
    # groups with the same sum and size count alike: draw how many of each kind
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    draws = np.random.default_rng(0).binomial(counts, 0.5, size=(NUM_DRAWS, len(counts)))
    gain, size = (draws @ kinds).T
    means = gain / np.maximum(size, 1)
    ends = ((np.where(size, means, -1), LEVEL / 2), (np.where(size, means, 1), 1 - LEVEL / 2))
    low, high = (float(np.quantile(x, q, method="inverted_cdf")) for x, q in ends)
    # draws find an end to a few percent; on which side of it 0 lies is known exactly
    if exact_p(sums) >= LEVEL:
        return min(low, 0.0), max(high, 0.0)
    if sums.sum() > 0:
        return max(low, means[means > 0].min()), high
    return low, min(high, means[means < 0].max())


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same videos; accuracies in percent."""

    top1: tuple[float, float]  # of both
    difference: float  # of the second run to the first
    interval: tuple[float, float]  # 95 %, of the difference; without 0 just where p < LEVEL
    only_a: int  # videos that the first run alone has right
    only_b: int
    p: float  # see `exact_p`


def compare_runs(a: Scores, b: Scores, groups: list[str] | None) -> Comparison:
    """How much better `b` is, where the videos of a group, or single ones, are one observation."""
    right_a, right_b = (one.scores.argmax(axis=1) == one.labels for one in (a, b))
    gain = right_b.astype(int) - right_a
    _, group = np.unique(groups or a.names, return_inverse=True)
    sums = np.bincount(group, weights=gain).astype(int)
    low, high = matching_interval(sums, np.bincount(group))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    top1 = 100 * right_a.mean(), 100 * right_b.mean()
    interval = 100 * low, 100 * high
    return Comparison(top1, 100 * gain.mean(), interval, only_a, only_b, exact_p(sums))


def compare_sides(
    a: Scores, b: Scores, name_a: str, name_b: str, regex: re.Pattern[str] | None
) -> tuple[Comparison, str]:
    """Two runs on the same videos, in whatever order, and the test behind it in words.

    Raises:
        UserError: they are not of the same videos, or the groups cannot be found or are only one.
    """
    b = aligned(a, b, name_a, name_b)
    groups = find_groups(a.names, regex)
    if regex and groups is None:
        raise UserError(f"--group-regex {regex.pattern} finds nothing in '{a.names[0]}'")
    num_groups = len(set(groups or a.names))
    if num_groups < 2:
        raise UserError(f"{plural(len(a.names), 'video')} in one group: that has no spread")
    test = f"exact p over {num_groups} groups" if groups else "McNemar's exact p"
    return compare_runs(a, b, groups), test


def group_regex(text: str | None) -> re.Pattern[str] | None:
    """What --group-regex gives."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UserError(f"--group-regex is no regular expression: {error}") from None


def conclusion(found: Comparison, name_a: str, name_b: str) -> str:
    """One sentence; interval and test always agree, see `matching_interval`."""
    if found.p >= LEVEL:
        return (
            f"conclusion: the difference of {found.difference:+.1f} points may well be chance; "
            "neither run is shown to be better"
        )
    better, worse = (name_b, name_a) if found.difference > 0 else (name_a, name_b)
    least, most = sorted(map(abs, found.interval))
    return (
        f"conclusion: {better} is better than {worse} by {abs(found.difference):.1f} points "
        f"({least:.1f} to {most:.1f}) on videos like these"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, metavar="A")
    parser.add_argument("others", type=Path, nargs="+", metavar="B")
    parser.add_argument("--to", type=Path, nargs="+", metavar="B", help="then all others are of A")
    parser.add_argument(
        "--group-regex", metavar="RE", help="what the path of a video says of its group (UCF101's)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where the files do not belong together or an option is of no use."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.to and len(args.others) > 1:
        parser.error("give two files, or several a run: A1 A2 --to B1 B2")
    # here, since --help need not wait for torch
    from utils.results import levels_in_words, summarize_scores

    regex = group_regex(args.group_regex)
    sides = ([args.first, *args.others], args.to) if args.to else ([args.first], args.others)
    a, b = map(load_side, sides)
    name_a, name_b = (" + ".join(map(str, side)) for side in sides)
    found, test = compare_sides(a, b, name_a, name_b, regex)
    print(f"A: {name_a}: top-1 {found.top1[0]:.1f} %; {a.protocol}")
    print(f"B: {name_b}: top-1 {found.top1[1]:.1f} %; {b.protocol}")
    print(f"for comparison: {levels_in_words(summarize_scores(a))}")
    low, high = found.interval
    print(f"B - A: {found.difference:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")
    print(
        f"only A right {found.only_a}, only B right {found.only_b} of "
        f"{plural(len(a.names), 'video')}: {test} = {found.p:.2g}"
    )
    print(conclusion(found, name_a, name_b))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
