"""On which list a video of one's own goes: by chance, by groups, or as a file says."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from config import DATASETS, UserError, plural
from pt_dataset.listing.find_videos import Names, find_video
from pt_dataset.listing.known_sets import SIDES, read_csv


def sizes_by_group(
    groups: dict[str, str], classes: Mapping[str, str], seed: int
) -> dict[str, Counter[str]]:
    """The number of videos of each class in each group, the groups in an order of the seed."""
    sizes = defaultdict(Counter)
    for path, group in groups.items():
        sizes[group][classes[path]] += 1
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    return {group: sizes[group] for group in order}


def split_groups(
    groups: dict[str, str], classes: Mapping[str, str], fraction: float, seed: int
) -> dict[str, str]:
    """Puts each group on one side, "train" or "test", with about `fraction` of each class in test.

    A greedy search in random order; every class that has two groups gets a video on both sides,
    unless groups that classes share make that impossible. The order of `groups` does not
    matter; they, the classes and the sides that are returned are by path of a video.
    """
    total = Counter(classes[path] for path in groups)
    wanted = {name: min(max(round(fraction * n), 1), n - 1) for name, n in total.items()}
    sizes = sizes_by_group(groups, classes, seed)
    test, taken = set(), Counter()  # groups, and their videos by class

    def gain(group: str) -> int:  # by how much it lessens the squared distance to `wanted`
        return sum(n * (2 * (wanted[c] - taken[c]) - n) for c, n in sizes[group].items())

    def fits(group: str) -> bool:  # some of each class must stay in train
        return all(taken[c] + n < total[c] for c, n in sizes[group].items())

    def take(group: str) -> None:
        test.add(group)
        taken.update(sizes[group])

    for group in sizes:
        if gain(group) > 0 and fits(group):
            take(group)
    for name in sorted(total):
        if not taken[name]:  # its groups are all larger than what is wanted
            fitting = [group for group in sizes if name in sizes[group] and fits(group)]
            if fitting:
                take(max(fitting, key=gain))
    return {path: "test" if group in test else "train" for path, group in groups.items()}


def split_folds(
    groups: dict[str, str], classes: Mapping[str, str], num_folds: int, seed: int
) -> list[dict[str, str]]:
    """Splits for a cross-validation, in which each video is in test exactly once.

    Whole groups are dealt out, the largest first, each to the fold with the fewest videos of its
    classes. All is by path of a video; UserError if groups are fewer than folds.
    """
    sizes = sizes_by_group(groups, classes, seed)
    if len(sizes) < num_folds:
        raise UserError(
            f"--folds {num_folds} needs as many groups of videos; {len(sizes)} are there"
        )
    folds, fold_of = [Counter() for _ in range(num_folds)], {}
    for group, counts in sorted(sizes.items(), key=lambda item: -item[1].total()):
        crowds = [
            (sum(n * fold[name] for name, n in counts.items()), fold.total()) for fold in folds
        ]
        fold_of[group] = crowds.index(min(crowds))
        folds[fold_of[group]].update(counts)
    return [
        {path: "test" if fold_of[group] == i else "train" for path, group in groups.items()}
        for i in range(num_folds)
    ]


def draw_splits(
    groups: dict[str, str],
    classes: Mapping[str, str],
    fraction: float,
    num_folds: int | None,
    seed: int,
) -> list[dict[str, str]]:
    """Those of a cross-validation, or a single one with `fraction` of each class in test."""
    if num_folds:
        return split_folds(groups, classes, num_folds, seed)
    return [split_groups(groups, classes, fraction, seed)]


def read_split_file(path: Path, videos: Collection[str]) -> dict[str, str]:
    """Side by name of the videos that a CSV file names in its columns `path` and `split`.

    Raises:
        UserError: there is no such file or column, `split` has an unknown word, a video has two
            sides, or none of the paths is a video.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    rows = read_csv(path, {"path", "split"})
    if rows is None:
        raise UserError(f"{path} needs a first line that names the columns path and split")
    names, sides, num_missing = Names(videos), {}, 0
    for where, row in rows:
        word = (row["split"] or "").strip().lower()
        if word not in SIDES:
            raise UserError(f"{where}: split is '{word}', not one of {', '.join(SIDES)}")
        video = find_video((row["path"] or "").strip(), names)
        if video is None:
            num_missing += 1
        elif sides.setdefault(video, SIDES[word]) != SIDES[word]:
            raise UserError(f"{where}: {video} is in train and in test")
    report_split(str(path), len(sides), num_missing, videos)
    return sides


def report_split(source: str, num_found: int, num_missing: int, videos: Collection[str]) -> None:
    """Says which videos are in a split or in FRAMES alone; UserError if none is in both."""
    if not num_found:
        example = next(iter(videos))
        raise UserError(f"{source} names no video of FRAMES, where a path is like {example}")
    if num_missing:
        print(f"FRAMES lacks the video of {plural(num_missing, 'line')} of {source}")
    if num_found < len(videos):
        others = plural(len(videos) - num_found, "video")
        print(f"warning: not in {source}, so in no list: {others}")


def how_to_make(folder: Path, split: int) -> str:
    """What to type, in words, where the lists of a split of the data set `folder` are missing."""
    name, make = folder.name, "python pt_dataset/make_json.py"
    splits = sorted(int(path.stem[-2:]) for path in folder.glob("trainlist[0-9][0-9].json"))
    public = name in DATASETS
    if splits and split not in splits:
        there = f"lists are there of --split {', '.join(map(str, splits))}"
        several = f"; {make} folder {name} FRAMES --folds K makes those of K splits"
        return there + several * (not public)
    if name == "demo":
        return f"remove {folder}, and the next run with --dataset demo writes it anew"
    if public:
        return (
            f"{make} {name} FRAMES makes it from the videos or frames in the folder FRAMES, see "
            "videos_dataset/README.md"
        )
    return (
        "make one from your videos in three commands: "
        f"python pt_dataset/extract_frames.py VIDEOS FRAMES, {make} folder {name} FRAMES, "
        f"python main.py --arch i3d --dataset {name}"
    )
