"""Lists of videos and their labels as other projects write them."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from config import UserError
from pt_dataset.datalist import read_classes
from pt_dataset.listing.find_videos import Names, find_video
from pt_dataset.listing.known_sets import SIDES, read_csv, read_lines
from pt_dataset.listing.splits import report_split

NUMBER = re.compile(r"-?\d+")
# what stands above the columns, where anything does
VIDEO_WORDS = ("video", "path", "file", "filename", "file_name", "video_path", "video_name", "name")
LABEL_WORDS = ("label", "class", "class_name", "category", "label_name")
SPLIT_WORDS = ("split", "subset", "set")


class Listed(NamedTuple):
    """What lists say of videos; everything by name."""

    sides: dict[str, str]  # "train" or "test", where it is said
    labels: dict[str, str]  # numbers or class names as they stand there, "" where none does
    numbers: set[int]  # those of missing videos, too

    def add(self, where: str, name: str | None, label: str, side: str | None) -> None:
        """Adds what one line says; UserError if another one says something else."""
        if NUMBER.fullmatch(label):
            self.numbers.add(int(label))
        if name is None:
            return
        if re.fullmatch(r"[-+.,;\d\s]+", label) and not NUMBER.fullmatch(label):
            what = "write one whole number, or the name of the class"
            raise UserError(f"{where}: the label is '{label}'; {what}")
        if self.labels.setdefault(name, label) != label or (
            side and self.sides.setdefault(name, side) != side
        ):
            raise UserError(f"{where}: {name} has another list or label above")


def parts_of(line: str) -> Iterator[tuple[str, str]]:
    """What may be path and label on a line `path label`, `path frames label` or `path`.

    A path, too, may have spaces, commas and numbers in it, so the longer one comes first.
    """
    for delimiter in (None, ",", ";"):
        path, *label = line.rsplit(delimiter, 1)
        if label:
            yield path, label[0].strip()
            shorter, *count = path.rsplit(delimiter, 1)
            if count and count[0].strip().isdigit():
                yield shorter, label[0].strip()
    path, _, class_name = line.partition(" ")
    yield path, class_name.strip()
    yield line, ""


def parse_line(line: str, names: Names) -> tuple[str | None, str]:
    """Name and label of the video on a line; None: there is no such video."""
    parts = list(parts_of(line))
    found = ((find_video(path.strip(' "'), names), label) for path, label in parts)
    return next((pair for pair in found if pair[0]), (None, parts[0][1]))


def read_list_files(files: dict[str, Path], videos: Collection[str]) -> Listed:
    """What lists, by side, as those of TSN, MMAction2, PySlowFast and GluonCV say of videos.

    A path in a list may begin at another place than the name of a video, or on another machine.

    Raises:
        UserError: a video has two sides or labels, or none is found.
    """
    names, listed, num_missing = Names(videos), Listed({}, {}, set()), 0
    for side, file in files.items():
        if not file.is_file():
            raise UserError(f"no file {file}")
        for i, line in enumerate(read_lines(file)):
            name, label = parse_line(line, names)
            if i == 0 and name is None and re.split(r"\W", line.lower())[0] in VIDEO_WORDS:
                continue
            num_missing += name is None
            listed.add(f"{file}: line {i + 1}", name, label, side)
    report_split(" and ".join(map(str, files.values())), len(listed.labels), num_missing, videos)
    return listed


def read_label_file(path: Path, videos: Collection[str]) -> Listed:
    """What a CSV file with a video and its label in each row, and perhaps a split, says of videos.

    Raises:
        UserError: a column or label is missing, a video has two labels or sides, or none is found.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    rows = read_csv(path, set()) or []
    columns = rows[0][1].keys() if rows else ()
    video, label, split = (
        next((word for word in words if word in columns), None)
        for words in (VIDEO_WORDS, LABEL_WORDS, SPLIT_WORDS)
    )
    if not video or not label:
        raise UserError(f"{path} needs a first line that names the columns video and label")
    names, listed, num_missing = Names(videos), Listed({}, {}, set()), 0
    for where, row in rows:
        side, text = None, (row[label] or "").strip()
        if not text:
            raise UserError(f"{where}: the label is missing")
        if split:
            word = (row[split] or "").strip().lower()
            if word not in SIDES:
                raise UserError(f"{where}: split is '{word}', not one of {', '.join(SIDES)}")
            side = SIDES[word]
        name = find_video((row[video] or "").strip(), names)
        num_missing += name is None
        listed.add(where, name, text, side)
    report_split(str(path), len(listed.labels), num_missing, videos)
    return listed


def name_labels(
    listed: Listed, folders: Mapping[str, str], class_file: Path | None
) -> tuple[dict[str, str], list[str]]:
    """The class of each video by its label, and all classes, label 0 first.

    Names of numbers are in the class file, or follow from the folders of the videos. So does the
    class of a video without a label.

    Raises:
        UserError: a label has no name, or the folders give it two.
    """
    given = {name: label for name, label in listed.labels.items() if label}
    kinds, classes = {bool(NUMBER.fullmatch(label)): label for label in given.values()}, []
    if len(kinds) > 1:
        raise UserError(f"some labels are numbers and others names: {kinds[True]}, {kinds[False]}")
    if True in kinds:
        classes, first = number_names(listed, folders, class_file)
        given = {name: classes[int(label) - first] for name, label in given.items()}
        if first:
            print("the labels of the lists begin with 1, those of the new lists with 0")
    named = {name: given.get(name) or folders[name] for name in listed.labels}
    if True not in kinds:
        classes = read_classes(class_file) if class_file else sorted({*named.values()})
    unknown = {*named.values()} - {*classes}
    if unknown:
        raise UserError(f"'{min(unknown)}' is a label, but no class of {class_file or 'the lists'}")
    return named, classes


def number_names(
    listed: Listed, folders: Mapping[str, str], class_file: Path | None
) -> tuple[list[str], int]:
    """The class names in the order of the labels, which are numbers, and the first of these."""
    low, high = min(listed.numbers), max(listed.numbers)
    if class_file:
        classes = read_classes(class_file)
        first = int(low == 1 and high == len(classes))
        if low < 0 or high - first >= len(classes):
            known = f"{class_file} has names for 0 to {len(classes) - 1}"
            raise UserError(f"the lists have labels {low} to {high}, {known}")
        return classes, first
    pairs = {(folders[video], int(label)) for video, label in listed.labels.items() if label}
    names = {label: name for name, label in pairs}
    # as many names as labels as pairs: one to one
    one_to_one = len(set(names.values())) == len(names) == len(pairs)
    first = int(low == 1)
    if not one_to_one or sorted(names) != list(range(first, len(names) + first)):
        raise UserError(
            "the labels of the lists and the folders of FRAMES are not one to one; give the names "
            "of all classes with --classes"
        )
    return [names[label] for label in sorted(names)], first
