"""Write the lists of a data set: trainlist01.json, testlist01.json and classes.txt.

    python pt_dataset/make_json.py folder NAME FRAMES                          # a random split
    python pt_dataset/make_json.py folder NAME FRAMES --group-regex 'seq\\d+'   # by source
    python pt_dataset/make_json.py folder NAME FRAMES --split-file split.csv   # a given split

FRAMES has a folder a class with a folder of numbered pictures a video in it, as extract_frames.py
writes them. The lists land in <data-root>/NAME; the frames stay where they are.
"""

import argparse
import csv
import os
import random
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import UserError
from pt_dataset.datalist import Video, write_atomic, write_list
from pt_dataset.sources import FRAME_NAME, frame_names

SIDES = {"train": "train", "val": "test", "validation": "test", "test": "test"}  # words of a CSV
DATA_ROOT = Path("videos_dataset")  # below the working folder
WHAT_FRAMES_IS = (
    "FRAMES needs a folder a class with a folder of frames a video in it; "
    "pt_dataset/extract_frames.py makes them from videos"
)


def video_folders(folder: Path) -> Iterator[Path]:
    """Folders below `folder`, or itself, that have pictures or nothing to descend into."""
    with os.scandir(folder) as entries:
        entries = list(entries)
    below = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    if any(FRAME_NAME.fullmatch(entry.name) for entry in entries) or not below:
        yield folder
    else:
        for name in below:
            yield from video_folders(folder / name)


def find_videos(frames: Path) -> tuple[dict[str, int], list[str]]:
    """Frame counts of the videos by their path below `frames`, and what is wrong with others."""
    if not frames.is_dir():
        raise UserError(f"{frames} is no folder; {WHAT_FRAMES_IS}")
    counts, problems = {}, []
    for folder in video_folders(frames):
        path = folder.relative_to(frames).as_posix()
        if path.encode("utf-8", "replace").decode().splitlines() != [path]:
            problems.append(f"{path!r}: a name that a text file cannot hold; rename it")
            continue
        try:
            counts[path] = len(frame_names(folder))
        except UserError as error:
            problems.append(str(error))
    flat = [path for path in counts if "/" not in path]
    if flat:
        raise UserError(f"{frames / flat[0]} has frames where a class should be; {WHAT_FRAMES_IS}")
    if not counts:
        raise UserError(f"no video of {frames} can be used ({problems[0]}); {WHAT_FRAMES_IS}")
    return counts, problems


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


def read_split_file(path: Path, videos: dict[str, int]) -> dict[str, str]:
    """Side by path of the videos that a CSV file names in its columns `path` and `split`.

    Raises:
        UserError: no such file or column, an unknown word in `split`, two sides for one video, or
            none of its paths is a video.
    """
    sides, num_missing = {}, 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
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
    if not sides:
        example = next(iter(videos))
        raise UserError(f"{path} names no video of FRAMES, where a path is like {example}")
    if num_missing:
        print(f"{num_missing} lines of {path} name a video that FRAMES does not have")
    if len(sides) < len(videos):
        print(f"warning: {len(videos) - len(sides)} videos are not in {path}, so in no list")
    return sides


def write_lists(folder: Path, frames: Path, sides: dict[str, str], videos: dict[str, int]) -> None:
    """Writes both lists and classes.txt into `folder` and prints the number of videos."""
    classes = sorted({class_of(path) for path in sides})
    labels = {name: label for label, name in enumerate(classes)}
    lists, counts = {"train": [], "test": []}, Counter()
    for path, side in sorted(sides.items()):
        name = class_of(path)
        lists[side].append(Video(str(frames / path), labels[name], name, videos[path]))
        counts[name, side] += 1
    for side, other in (("train", "test"), ("test", "train")):
        if not lists[side]:
            raise UserError(
                f"no video is left for the {side} list, all {len(sides)} go to {other}; "
                "add videos, or say with --split-file where each belongs"
            )
    write_atomic(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    for side, entries in lists.items():
        write_list(folder / f"{side}list01.json", entries)

    width = max(map(len, (*classes, "class")))
    print(f"{'class':{width}} {'train':>7} {'test':>7}")
    for name in classes:
        print(f"{name:{width}} {counts[name, 'train']:7} {counts[name, 'test']:7}")
    print(f"{'':{width}} {len(lists['train']):7} {len(lists['test']):7}")
    for side in lists:
        without = [name for name in classes if not counts[name, side]]
        if without:
            print(f"no {side} video of: {', '.join(without)}")
    print(f"lists: {folder}/trainlist01.json and testlist01.json")
    print(f"labels: 0 to {len(classes) - 1}, in the order of the names as in classes.txt")


def make_folder(
    *,
    name: str,
    frames: Path,
    data_root: Path,
    val_fraction: float,
    split_file: Path | None,
    group_regex: re.Pattern,
    seed: int,
) -> int:
    """The lists of a folder of frames; returns the exit status."""
    if not re.fullmatch(r"[^./\\][^/\\]*", name):
        raise UserError(f"NAME is '{name}'; it has to be the plain name of a folder")
    frames = Path(os.path.abspath(frames))
    videos, problems = find_videos(frames)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if split_file:
        sides = read_split_file(split_file, videos)
    else:
        groups = {path: group_of(path, group_regex) for path in videos}
        sides = split_groups(groups, val_fraction, seed)
    write_lists(Path(os.path.abspath(data_root / name)), frames, sides, videos)
    where = "" if data_root == DATA_ROOT else f" --data-root {shlex.quote(str(data_root))}"
    print(f"next: python main.py --arch i3d --dataset {shlex.quote(name)}{where}")
    return 1 if problems else 0


def add_folder(commands) -> None:
    """The command `folder`, with its options."""
    parser = commands.add_parser(
        "folder",
        help="your own videos, as folders of frames in a folder a class",
        description="Lists of your own videos. " + WHAT_FRAMES_IS + ".",
        allow_abbrev=False,
    )
    parser.set_defaults(make=make_folder)
    add = parser.add_argument
    add("name", metavar="NAME", help="what main.py is to call the data set")
    add("frames", metavar="FRAMES", type=Path, help="the folder that has the class folders")
    root_help = "the lists go to DIR/NAME (default: %(default)s)"
    add("--data-root", type=Path, default=DATA_ROOT, metavar="DIR", help=root_help)
    fraction_help = "of each class for the test list (default: %(default)s)"
    add("--val-fraction", type=fraction, default=0.2, metavar="F", help=fraction_help)
    add("--seed", type=int, default=0, metavar="N", help="of the random split (default: 0)")
    add = parser.add_mutually_exclusive_group().add_argument
    file_help = "take the split from its columns path and split (train, or val or test)"
    add("--split-file", type=Path, metavar="CSV", help=file_help)
    group_help = "keep videos together for which it finds the same in their path below FRAMES"
    add("--group-regex", type=regex, default=regex(".+"), metavar="RE", help=group_help)


def fraction(text: str) -> float:
    """A number between 0 and 1 for argparse."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def regex(text: str) -> re.Pattern:
    """A regular expression for argparse."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"no regular expression: {error}") from None


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    parser = argparse.ArgumentParser(description="Write the lists of a data set.")
    commands = parser.add_subparsers(metavar="NAME", title="data sets")
    add_folder(commands)
    opts = vars(parser.parse_args(argv))
    if not opts:
        parser.print_help()
        return 2
    try:
        return opts.pop("make")(**opts)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # the disk is full, or not ours to read or write
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
