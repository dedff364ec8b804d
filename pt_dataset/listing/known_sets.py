"""The rules of the public data sets: which video has which class and belongs on which list.

A rule looks at names (paths without suffix) and official files, never at the order of a folder;
class names are those of the data set's tracked class file.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from config import DATASETS, UCF_NAME, UserError
from pt_dataset.datalist import CLASS_FILES, read_classes, read_list
from pt_dataset.sources import VIDEO_NAME
from pt_dataset.video_list import Video

HELD_OUT = ("val", "valid", "validation", "validate", "test", "testing")
SIDES = {"train": "train"} | dict.fromkeys(HELD_OUT, "test") | {"training": "train"}
UCF_TEST_GROUPS = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}  # of 25; by split
HMDB_SIDES = {"0": None, "1": "train", "2": "test"}  # codes of the official files
# a video id of YouTube has 11 characters, the first may be - or _; then start and end in seconds
KINETICS_NAME = re.compile(r"([\w-]{11})(?:_\d{6}_\d{6})?", re.ASCII)
KINETICS_SIDE = re.compile(r"(?<![a-z])(train|val|validate|validation)(?![a-z])")
CSV_COLUMNS = {"label", "youtube_id", "split"}
ID_LISTS = {"train": "train_ytid_list.txt", "test": "val_ytid_list.txt"}

LOOKED_FOR = {
    "ucf101": "folders, zips or videos named like v_Archery_g01_c01",
    "hmdb51": "videos or frames, and the files CLASS_test_split1.txt to 3",
    "kinetics400": "train/CLASS/VIDEO and val/CLASS/VIDEO",
    "kinetics200": "train_ytid_list.txt and val_ytid_list.txt",
}


class Assignment(NamedTuple):
    """What a rule says: lists as "trainlist01": {name of a video: its class}."""

    lists: dict[str, dict[str, str]]
    split_by: str  # for the reader: what decided
    list_sizes: dict[str, int]  # how many videos there are officially


class Labels:
    """Finds a class by its name in another spelling."""

    def __init__(self, names: Collection[str]):
        self.by_key = {self.key(name): name for name in names}

    @staticmethod
    def key(name: str) -> str:
        """Letters and digits: Kinetics' `hurling (sport)` may be `hurling_sport`."""
        return re.sub(r"[\W_]", "", name.lower())

    def find(self, name: str) -> str | None:
        return self.by_key.get(self.key(name))


def last(name: str) -> str:
    """The last component of a name."""
    return name.rpartition("/")[2]


def find_files(folder: Path, pattern: str) -> dict[str, Path]:
    """Files in a folder, or one level below it, by their names."""
    paths = sorted([*folder.glob(f"*/{pattern}"), *folder.glob(pattern)]) if folder.is_dir() else []
    return {path.name: path for path in paths}


def read_lines(path: Path) -> list[str]:
    """The lines of a small text file, without spaces around them and without empty ones."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; save it as that") from None
    return [line.strip() for line in lines if line.strip()]


def read_csv(path: Path, columns: set[str]) -> list[tuple[str, dict[str, str]]] | None:
    """The rows of a CSV file with where each stands; None if one of `columns` is missing."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t", key=file.readline().count)  # Excel's depends on the country
            file.seek(0)
            rows = csv.DictReader(file, skipinitialspace=True, delimiter=delimiter)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
            if not columns <= set(rows.fieldnames):
                return None
            return [(f"{path}: line {rows.line_num}", row) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from None


def check_places(names: Collection[str], key: Callable[[str], object]) -> None:
    """Refuses a video, which `key` of its name identifies, in two places."""
    places = {}
    for name in names:
        other = places.setdefault(key(name), name)
        if other != name:
            raise UserError(f"{last(name)} is there twice, as {other} and as {name}; keep one")


def ucf101(
    names: Collection[str], classes: list[str], annotations: Path | None, folder: Path
) -> Assignment:
    """By the official split files if all are there, else by their rule: the groups in the names."""
    sizes, labels = DATASETS["ucf101"].list_sizes, Labels(classes)
    videos, groups = {}, {}
    for name in names:
        match = UCF_NAME.fullmatch(last(name))
        # the split files have HandStandPushups, several archives of frames HandstandPushups
        class_name = match and match["class_name"] and labels.find(match["class_name"])
        if match and class_name:
            videos[name], groups[name] = class_name, int(match["number"][1:])
    check_places(videos, lambda name: last(name).lower())
    files = find_files(annotations or folder, "*list0?.txt")
    missing = [f"{name}.txt" for name in sizes if f"{name}.txt" not in files]
    if annotations and missing:
        raise UserError(
            f"{annotations} has no {missing[0]}; get UCF101TrainTestSplits-RecognitionTask.zip, or "
            "leave out --annotations: the lists follow from the groups in the names"
        )
    lists = {}
    for list_name in sizes:
        if missing:
            test, is_test = UCF_TEST_GROUPS[int(list_name[-2:])], list_name.startswith("test")
            chosen = [name for name in videos if (groups[name] in test) == is_test]
        else:
            lines = read_lines(files[f"{list_name}.txt"])
            official = {Path(line.split()[0]).stem.lower() for line in lines}
            chosen = [name for name in videos if last(name).lower() in official]
        lists[list_name] = {name: videos[name] for name in chosen}
    split_by = "the groups in the names" if missing else str(files["trainlist01.txt"].parent)
    return Assignment(lists, split_by, sizes)


def hmdb51(
    names: Collection[str], classes: list[str], annotations: Path | None, folder: Path
) -> Assignment:
    """By the official files: each class has one for each split."""
    where = annotations or folder
    files = find_files(where, "*_test_split?.txt")
    wanted = {
        f"{class_name}_test_split{split}.txt": (split, class_name)
        for split in (1, 2, 3)
        for class_name in classes
    }
    missing = [name for name in wanted if name not in files]
    if missing:
        raise UserError(
            f"{where} has {len(wanted) - len(missing)} of the {len(wanted)} split files "
            f"({missing[0]} is missing); unpack test_train_splits.rar from HMDB51's page and name "
            "its folder with --annotations"
        )
    places = defaultdict(list)
    for name in names:
        places[last(name)].append(name)
    sizes = DATASETS["hmdb51"].list_sizes
    lists = {name: {} for name in sizes}
    for file, (split, class_name) in wanted.items():
        for line in read_lines(files[file]):
            clip, _, code = line.rpartition(" ")
            if code not in HMDB_SIDES:
                raise UserError(f"{files[file]}: '{line}' does not end in 0, 1 or 2")
            clip = clip.strip().removesuffix(".avi")
            found = places[clip]
            if len(found) > 1:  # another class may have a clip of that name
                end = f"/{class_name}/{clip}"
                found = [name for name in found if f"/{name}".endswith(end)] or found
                check_places(found, last)
            if found and HMDB_SIDES[code]:
                lists[f"{HMDB_SIDES[code]}list{split:02d}"][found[0]] = class_name
    return Assignment(lists, str(files[next(iter(wanted))].parent), sizes)


def youtube_ids(names: Collection[str]) -> dict[str, str]:
    """The id of each video whose name is that of one of Kinetics."""
    matches = {name: KINETICS_NAME.fullmatch(last(name)) for name in names}
    return {name: match[1] for name, match in matches.items() if match}


def kinetics_lists(
    ids: dict[str, str], decided: Mapping[str, tuple[str | None, str | None]]
) -> dict[str, dict[str, str]]:
    """The two lists, of those that have both side and class by `decided`; both by name."""
    lists: dict[str, dict[str, str]] = {"trainlist01": {}, "testlist01": {}}
    for name, (side, label) in decided.items():
        if side and label:
            lists[f"{side}list01"][name] = label
    check_places([name for chosen in lists.values() for name in chosen], ids.__getitem__)
    return lists


def kinetics400(
    names: Collection[str], classes: list[str], annotations: Path | None, folder: Path
) -> Assignment:
    """By CSV files where there are any, else by the folders train/CLASS and val/CLASS."""
    labels, ids = Labels(classes), youtube_ids(names)
    files, official = read_kinetics(annotations or folder, labels)
    if files:
        decided = {name: official.get(video_id, (None, None)) for name, video_id in ids.items()}
        counts = Counter(side for side, _ in official.values())
        sizes = {f"{side}list01": counts[side] for side in ("train", "test")}
        return Assignment(kinetics_lists(ids, decided), " and ".join(map(str, files)), sizes)
    if annotations:
        raise UserError(
            f"{annotations} has no CSV file with the columns {', '.join(sorted(CSV_COLUMNS))}; "
            "get train.csv and val.csv, or leave out --annotations if FRAMES has train/ and val/"
        )
    lists = kinetics_lists(ids, {name: by_folder(name, labels) for name in ids})
    sizes = DATASETS["kinetics400"].list_sizes
    return Assignment(lists, "the folders train/CLASS and val/CLASS", sizes)


def by_folder(name: str, labels: Labels) -> tuple[str | None, str | None]:
    """Side and class of a name like kinetics_train/air_drumming/ID; None where it has none."""
    *above, class_folder, _ = ["", *name.split("/")]
    sides = [KINETICS_SIDE.search(part.lower()) for part in above]
    side = next((SIDES[match[1]] for match in reversed(sides) if match), None)
    return side, labels.find(class_folder)


def read_kinetics(folder: Path, labels: Labels) -> tuple[list[Path], dict[str, tuple[str, str]]]:
    """The CSV files of Kinetics in a folder, and side and class by the id of a video.

    The videos of the test set are skipped: the lists called test hold those for validation, as
    everywhere in the literature.

    Raises:
        UserError: a file is no text in UTF-8, or has a class that Kinetics-400 does not have.
    """
    files, official = [], {}
    for path in find_files(folder, "*.csv").values():
        rows = read_csv(path, CSV_COLUMNS)
        if rows is None:
            continue
        files.append(path)
        for where, row in rows:
            side, label = row["split"], labels.find(row["label"] or "")
            if side == "test":
                continue
            if side not in SIDES or label is None:
                raise UserError(
                    f"{where}: split '{side}', label '{row['label']}': no such split or class in "
                    "Kinetics-400"
                )
            official[row["youtube_id"]] = (SIDES[side], label)
    return files, official


def kinetics200(
    names: Collection[str], classes: list[str], annotations: Path | None, folder: Path
) -> Assignment:
    """Videos of Kinetics-400, each below a folder of its class, that the id lists name."""
    labels, where = Labels(classes), annotations or folder
    files, sides = find_files(where, "*_ytid_list.txt"), {}
    for side, file in ID_LISTS.items():
        if file not in files:
            raise UserError(
                f"{where} has no {file}; get it and the other one from "
                "github.com/s9xie/Mini-Kinetics-200 and name their folder with --annotations"
            )
        for line in read_lines(files[file]):
            if not re.fullmatch(r"[\w-]{11}", line, re.ASCII):
                raise UserError(f"{files[file]}: '{line}' is no id of a YouTube video")
            sides[line] = side
    ids = youtube_ids(names)
    decided = {name: (sides.get(ids[name]), by_folder(name, labels)[1]) for name in ids}
    return Assignment(kinetics_lists(ids, decided), str(where), DATASETS["kinetics200"].list_sizes)


RULES = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "kinetics200": kinetics200,  # after the set that it is a part of
}


def known_classes(name: str, folder: Path) -> list[str]:
    """The class names of a public set, which a class file in `folder` must not contradict."""
    classes, own = read_classes(CLASS_FILES / name / "classes.txt"), folder / "classes.txt"
    if own.exists() and read_classes(own) != classes:
        raise UserError(
            f"{own} has other classes or another order than {name}; move it away, or make lists "
            f"of your own with make_json.py folder"
        )
    return classes


def check_own_name(name: str, classes: Collection[str]) -> None:
    """Refuses for videos of one's own the name of the demo set, or of a public set that has other
    classes; its class file, which is part of this project, would be lost."""
    known = name.lower()  # some disks do not tell letters from capitals
    if known == "demo":
        raise UserError("demo is the name of the demo set; choose another NAME")
    if known in RULES and {*classes} != {*read_classes(CLASS_FILES / known / "classes.txt")}:
        raise UserError(
            f"{name} is the name of a public set, whose classes are others; choose another NAME, "
            f"or make the lists of that set with make_json.py {known} FRAMES"
        )


def kinetics400_videos(folder: Path) -> dict[str, Video]:
    """The videos on the lists of Kinetics-400 in `folder`, by names like those of its folders."""
    classes, videos = read_classes(CLASS_FILES / "kinetics400" / "classes.txt"), {}
    for side in ("train", "test"):
        path = folder / f"{side}list01.json"
        if not path.exists():
            raise UserError(
                f"no list {path}, of which kinetics200 is a part; make the lists of kinetics400 "
                "first, or name its videos as FRAMES"
            )
        for video in read_list(path, classes)[0]:
            videos[f"{side}/{video.class_name}/{Path(video.path).stem}"] = video
    return videos


def has_videos(name: str, folder: Path) -> bool:
    """Whether the folder of a public set has its videos, or for kinetics200 their ids, in it."""
    if name == "kinetics200":
        return ID_LISTS["train"] in find_files(folder, ID_LISTS["train"])
    entries = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    return any(
        path.is_dir() or path.suffix.lower() == ".zip" or VIDEO_NAME.fullmatch(path.name)
        for path in entries
    )
