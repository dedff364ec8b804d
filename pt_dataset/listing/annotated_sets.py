"""Public sets whose own annotation files name the classes: nothing of them is kept here."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from config import UserError
from pt_dataset.listing.known_sets import (
    CSV_COLUMNS,
    SIDES,
    Assignment,
    Labels,
    check_places,
    find_files,
    last,
    read_csv,
    read_lines,
    youtube_ids,
)


class Annotations(NamedTuple):
    """What the official files of a set say."""

    classes: list[str]  # label 0 first
    order: str  # of the labels, in words
    videos: dict[str, tuple[str, str]]  # side and class by what identifies a video
    files: list[Path]


def one_file(where: Path, pattern: str, what: str) -> Path:
    """The only file of such a name in a folder or one level below it, or UserError."""
    found = list(find_files(where, pattern).values())
    if len(found) != 1:
        names = " and ".join(path.name for path in found) or f"no {pattern}"
        raise UserError(f"{where} has {names}; name the folder of {what} with --annotations")
    return found[0]


def read_json(path: Path, kind: type) -> Any:
    """What a JSON file holds, of such a kind, or UserError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, kind):
        raise UserError(f"{path} does not hold a JSON {kind.__name__}")
    return found


def something(where: Path) -> Annotations:
    """Something-Something V2: the class of a video is its template without brackets."""
    what = "something-something-v2-labels.json, -train.json and -validation.json"
    label_file = one_file(where, "*labels.json", what)
    numbers = read_json(label_file, dict)  # {"Approaching something with your camera": "0", ...}
    try:
        classes = sorted(numbers, key=lambda name: int(numbers[name]))
    except (TypeError, ValueError):
        raise UserError(f"{label_file} needs a number for each class") from None
    labels, videos, files = Labels(classes), {}, [label_file]
    for side, word in (("train", "train"), ("test", "validation")):
        files.append(one_file(where, f"*{word}.json", what))
        for i, entry in enumerate(read_json(files[-1], list)):
            template = entry.get("template") if isinstance(entry, dict) else None
            label = labels.find(str(template))  # which skips the brackets of [something]
            if label is None or "id" not in entry:
                raise UserError(f"{files[-1]}: entry {i} has no id, or no template that is a class")
            videos[str(entry["id"])] = side, label
    return Annotations(classes, label_file.name, videos, files)


def jester(where: Path) -> Annotations:
    """Jester: lines `id;class`, or `id,class,...` below a header."""
    what = "jester-v1-labels.csv, -train.csv and -validation.csv"
    label_file = one_file(where, "*[Ll]abels.csv", what)
    classes = read_lines(label_file)
    labels, videos, files = Labels(classes), {}, [label_file]
    for side, pattern in (("train", "*[Tt]rain.csv"), ("test", "*[Vv]alidation.csv")):
        files.append(one_file(where, pattern, what))
        for line, (video, name, *_) in rows_of(files[-1], 2):
            label = labels.find(name)
            if label is not None:
                videos[video] = side, label
            elif line > 1:  # the first may be a header
                raise UserError(f"{files[-1]}: line {line}: '{name}' is not in {label_file.name}")
    return Annotations(classes, label_file.name, videos, files)


def rows_of(path: Path, num_columns: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file without header, separated by commas or semicolons, with their lines."""
    lines = read_lines(path)
    delimiter = max(",;", key=lines[0].count) if lines else ","
    for i, row in enumerate(csv.reader(lines, delimiter=delimiter), 1):
        if len(row) < num_columns:
            raise UserError(f"{path}: line {i} has {len(row)} of at least {num_columns} columns")
        yield i, [text.strip() for text in row]


def kinetics(where: Path) -> Annotations:
    """Kinetics-600 and -700: no class file is official, the labels are the sorted names."""
    videos, files = {}, []
    for path in find_files(where, "*.csv").values():
        rows = read_csv(path, CSV_COLUMNS)
        files += [path] if rows is not None else []
        for place, row in rows or []:
            if row["split"] == "test":  # as of Kinetics-400: the test list holds the validation set
                continue
            if row["split"] not in SIDES or not row["label"]:
                raise UserError(f"{place}: split '{row['split']}', label '{row['label']}'")
            videos[row["youtube_id"]] = SIDES[row["split"]], row["label"]
    if not videos:
        columns = ", ".join(sorted(CSV_COLUMNS))
        raise UserError(
            f"{where} has no CSV file with the columns {columns}; get train.csv and val.csv from "
            "github.com/cvdfoundation/kinetics-dataset and name their folder with --annotations"
        )
    classes = sorted({label for _, label in videos.values()})
    return Annotations(classes, "the sorted names", videos, files)


def moments(where: Path) -> Annotations:
    """Moments in Time: lines `class/video.mp4,class,votes,votes`, and `class,label`."""
    what = "moments_categories.txt, trainingSet.csv and validationSet.csv"
    label_file = one_file(where, "moments_categories.txt", what)
    numbers = {name: number for _, (name, number, *_) in rows_of(label_file, 2)}
    if not all(map(str.isdigit, numbers.values())):
        raise UserError(f"{label_file} needs a number for each class")
    videos, files = {}, [label_file]
    for side, word in (("train", "training"), ("test", "validation")):
        files.append(one_file(where, f"{word}Set.csv", what))
        for line, (path, label, *_) in rows_of(files[-1], 2):
            if label not in numbers:
                raise UserError(f"{files[-1]}: line {line}: '{label}' is not in {label_file.name}")
            videos[last_two(path.rpartition(".")[0])] = side, label
    classes = sorted(numbers, key=lambda name: int(numbers[name]))
    return Annotations(classes, label_file.name, videos, files)


def last_two(name: str) -> str:
    """The last two components of a name: the class and the video."""
    return "/".join(name.split("/")[-2:])


READERS: dict[str, Callable[[Path], Annotations]] = {
    "ssv2": something,
    "jester": jester,
    "kinetics600": kinetics,
    "kinetics700": kinetics,
    "moments": moments,
}
LOOKED_FOR = {
    "ssv2": "videos or frames named by their number, such as 78687.webm",
    "jester": "folders of frames named by their number, such as 34870",
    "kinetics600": "videos or frames named by their YouTube id",
    "kinetics700": "videos or frames named by their YouTube id",
    "moments": "CLASS/VIDEO in any folder",
}


def by_annotations(name: str, names: Collection[str], official: Annotations) -> Assignment:
    """The lists of a set by its official files."""
    if name.startswith("kinetics"):
        keys = youtube_ids(names)
    else:
        keys = {video: (last_two if name == "moments" else last)(video) for video in names}
    lists: dict[str, dict[str, str]] = {"trainlist01": {}, "testlist01": {}}
    for video, key in keys.items():
        if key in official.videos:
            side, label = official.videos[key]
            lists[f"{side}list01"][video] = label
    check_places([video for chosen in lists.values() for video in chosen], keys.__getitem__)
    counts = Counter(side for side, _ in official.videos.values())
    sizes = {f"{side}list01": counts[side] for side in ("train", "test")}
    return Assignment(lists, " and ".join(map(str, official.files)), sizes)
