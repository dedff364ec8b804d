"""On which list a video of one's own goes: by chance, by groups, or as a file says."""

import csv
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path

from config import UserError
from pt_dataset.datalist import read_classes
from pt_dataset.find_videos import Names
from pt_dataset.known_sets import SIDES, read_lines


def class_of(path: str) -> str:
    """The class of a video: the first folder of its path below FRAMES."""
    return path.split("/")[0]


def group_of(path: str, regex: re.Pattern) -> str:
    """What `regex` finds in a path: its first group, or all of the match.

    Raises:
        UserError: it does not match, or its group has no part in the match.
    """
    match = regex.search(path)
    group = match and match[1 if regex.groups else 0]
    if not group:
        raise UserError(f"--group-regex {regex.pattern} finds nothing in '{path}'")
    return group


def split_groups(groups: dict[str, str], fraction: float, seed: int) -> dict[str, str]:
    """Puts whole groups on one side, "train" or "test", with about `fraction` of each class in
    test.

    A greedy search in random order; every class that has two groups gets a video on both sides
    unless other classes stand against it.

    Args:
        groups: group by path of a video.
        fraction: of the videos of each class that go to test.
        seed: another one is another split; the order of `groups` does not matter.

    Returns:
        side by path of a video.
    """
    total = Counter(map(class_of, groups))
    wanted = {name: min(max(round(fraction * n), 1), n - 1) for name, n in total.items()}
    sizes = defaultdict(Counter)  # videos of each class by group
    for path, group in groups.items():
        sizes[group][class_of(path)] += 1
    order = sorted(sizes)
    random.Random(seed).shuffle(order)

    test, taken = set(), Counter()  # groups, and their videos by class

    def gain(group: str) -> int:  # how much less the squared distance to `wanted` is with it
        return sum(n * (2 * (wanted[c] - taken[c]) - n) for c, n in sizes[group].items())

    def fits(group: str) -> bool:  # some of each class must stay in train
        return all(taken[c] + n < total[c] for c, n in sizes[group].items())

    def take(group: str) -> None:
        test.add(group)
        taken.update(sizes[group])

    for group in order:
        if gain(group) > 0 and fits(group):
            take(group)
    for name in sorted(total):
        if not taken[name]:  # its groups are all larger than what is wanted
            fitting = [group for group in order if name in sizes[group] and fits(group)]
            if fitting:
                take(max(fitting, key=gain))
    return {path: "test" if group in test else "train" for path, group in groups.items()}


def split_folds(groups: dict[str, str], num_folds: int, seed: int) -> list[dict[str, str]]:
    """Cross-validation: as many splits, in which each video is in test exactly once.

    Whole groups are dealt out, the largest first, each to the fold that has fewest videos of its
    classes.

    Args:
        groups: group by path of a video.
        seed: another one gives other folds; the order of `groups` does not matter.

    Returns:
        For each fold the side by path of a video.

    Raises:
        UserError: there are fewer groups than folds.
    """
    sizes = defaultdict(Counter)  # videos of each class by group
    for path, group in groups.items():
        sizes[group][class_of(path)] += 1
    if len(sizes) < num_folds:
        raise UserError(
            f"--folds {num_folds} needs as many groups of videos; {len(sizes)} are there"
        )
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -sizes[group].total())

    folds, fold_of = [Counter() for _ in range(num_folds)], {}
    for group in order:

        def crowd(i: int, counts: Counter = sizes[group]) -> tuple[int, int]:
            return sum(n * folds[i][name] for name, n in counts.items()), folds[i].total()

        fold_of[group] = min(range(num_folds), key=crowd)
        folds[fold_of[group]].update(sizes[group])
    return [
        {path: "test" if fold_of[group] == i else "train" for path, group in groups.items()}
        for i in range(num_folds)
    ]


def read_split_file(path: Path, videos: Collection[str]) -> dict[str, str]:
    """Side by name of the videos that a CSV file names in its columns `path` and `split`.

    Raises:
        UserError: no such file or column, an unknown word in `split`, two sides for one video, or
            none of its paths is a video.
    """
    sides, num_missing = {}, 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t", key=file.readline().count)  # Excel's depends on the country
            file.seek(0)
            reader = csv.DictReader(file, skipinitialspace=True, delimiter=delimiter)
            if not {"path", "split"} <= set(reader.fieldnames or ()):
                raise UserError(f"{path} needs a first line that names the columns path and split")
            for row in reader:
                word = (row["split"] or "").strip().lower()
                where = f"{path}: line {reader.line_num}"
                if word not in SIDES:
                    raise UserError(f"{where}: split is '{word}', not one of {', '.join(SIDES)}")
                name = os.path.normpath((row["path"] or "").strip())
                video = name if name in videos else os.path.splitext(name)[0]
                if video not in videos:
                    num_missing += 1
                elif sides.setdefault(video, SIDES[word]) != SIDES[word]:
                    raise UserError(f"{where}: {video} is in train and in test")
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from None
    report_split(str(path), len(sides), num_missing, videos)
    return sides


def report_split(source: str, num_found: int, num_missing: int, videos: Collection[str]) -> None:
    """Says what a split and FRAMES do not have in common.

    Raises:
        UserError: nothing is in common.
    """
    if not num_found:
        example = next(iter(videos))
        raise UserError(f"{source} names no video of FRAMES, where a path is like {example}")
    if num_missing:
        print(f"{num_missing} lines of {source} name a video that FRAMES does not have")
    if num_found < len(videos):
        print(f"warning: {len(videos) - num_found} videos are not in {source}, so in no list")


def parse_line(line: str, names: Names) -> tuple[str | None, int]:
    """Name and label of a video on a line `path label` or `path frames label`; None: no such video.

    Paths may have spaces and numbers in them, too: what is a video of FRAMES is one.

    Raises:
        ValueError: the line is neither.
    """
    path, label = line.rsplit(None, 1)
    *shorter, count = path.rsplit(None, 1)
    candidates = [path, *shorter] if count.isdigit() else [path]
    stems = [os.path.splitext(candidate.rstrip("/"))[0] for candidate in candidates]
    found = (names.find(os.path.normpath(candidate)) for candidate in (*candidates, *stems))
    return next(filter(None, found), None), int(label)


def read_list_files(
    files: dict[str, Path], videos: Collection[str]
) -> tuple[dict[str, str], dict[str, int]]:
    """Side and label by name of the videos in lists as TSN and MMAction2 read them.

    Args:
        files: by side.
        videos: names of those in FRAMES; a path may begin at another place than a name.

    Raises:
        UserError: a line is none of such a list, a video has two sides or labels, or none is found.
    """
    names, sides, labels, num_missing = Names(videos), {}, {}, 0
    for side, file in files.items():
        if not file.is_file():
            raise UserError(f"no file {file}")
        for i, line in enumerate(read_lines(file)):
            where = f"{file}: line {i + 1}"
            try:
                name, label = parse_line(line, names)
            except ValueError:
                raise UserError(
                    f"{where}: '{line}' is neither 'path label' nor 'path frames label'"
                ) from None
            if name is None:
                num_missing += 1
            elif (sides.setdefault(name, side), labels.setdefault(name, label)) != (side, label):
                raise UserError(f"{where}: {name} has another list or label above")
    report_split(" and ".join(map(str, files.values())), len(sides), num_missing, videos)
    return sides, labels


def name_labels(labels: dict[str, int], class_file: Path | None) -> list[str]:
    """The class names in the order of labels: of a class file if given, else the videos' folders.

    Args:
        labels: by name of a video.
        class_file: has one name a line, label 0 first.

    Raises:
        UserError: a label has no name, or the folders give it two.
    """
    low, high = min(labels.values()), max(labels.values())
    if class_file:
        classes = read_classes(class_file)
        if low < 0 or high >= len(classes):
            raise UserError(
                f"the lists have labels {low} to {high}, {class_file} has names for 0 to "
                f"{len(classes) - 1}"
            )
        return classes
    names = {label: class_of(video) for video, label in labels.items()}
    one_to_one = (
        len(set(names.values()))
        == len(names)
        == len({(class_of(video), label) for video, label in labels.items()})
    )
    if not one_to_one or sorted(names) != list(range(len(names))):
        raise UserError(
            "the labels of the lists and the folders of FRAMES are not one to one; give the names "
            "of all classes with --classes"
        )
    return [names[label] for label in range(len(names))]
