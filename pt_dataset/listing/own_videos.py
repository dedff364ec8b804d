"""Videos of one's own: which class each has, and on which list it goes."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from config import UserError
from pt_dataset.listing.find_videos import FORMS, Found, find_videos
from pt_dataset.listing.list_files import name_labels, read_label_file, read_list_files
from pt_dataset.listing.splits import read_split_file
from pt_dataset.listing.trees import check_level, folder_splits, folders_above, has_split
from pt_dataset.video_list import Video

WHAT_FRAMES_IS = f"FRAMES needs a folder for each class with its videos in it: {FORMS}"


def find_own(frames: Path) -> Found:
    """The videos below `frames`, of which there are some, or UserError."""
    found = find_videos(frames)
    found.problems += found.others
    if not found.paths:
        flow = ["folders u and v are taken for optical flow"] if found.flow_paths else []
        reason = "".join(f" ({problem})" for problem in [*found.problems, *flow][:1])
        raise UserError(f"no video of {frames} can be used{reason}; {WHAT_FRAMES_IS}")
    return found


class Sorted(NamedTuple):
    """Videos with their classes, by name, and what is decided of their split."""

    classes: dict[str, str]
    class_names: list[str]  # label 0 first
    splits: list[dict[str, str]]  # the side by name; [] to draw one
    order: str  # of the labels, in words


def sort_videos(
    found: Found,
    frames: Path,
    *,
    class_level: int | None,
    split_file: Path | None,
    lists: dict[str, Path],
    labels: Path | None,
    classes: Path | None,
    draw: bool,
) -> Sorted:
    """The classes and the split of videos, by files or else by folders; `draw`: no given split."""
    in_split = class_level != 1 and has_split(found.paths)
    level = class_level or 1 + in_split
    above = folders_above(found.paths)
    folders = {name: "".join(steps[level - 1 : level]) for name, steps in above.items()}
    if lists or labels:
        names = found.paths
        listed = read_label_file(labels, names) if labels else read_list_files(lists, names)
        named, class_names = name_labels(listed, folders, classes)
        order = "of --classes" if classes else "of the names" if labels else "of the lists"
        splits = [listed.sides] if listed.sides and not draw else []
        return Sorted(named, class_names, splits, order)
    outside = [name for name, folder in folders.items() if not folder]
    if outside:
        tops = " and ".join(sorted({name.split("/")[0] for name in found.paths}))
        raise UserError(
            f"{found.paths[outside[0]]} is a video where a class should be; {WHAT_FRAMES_IS}; "
            "or say with --labels which class each video has"
            + f", or --class-level 1 if {tops} are classes"
            * in_split
        )
    if not class_level:
        check_level(above.values(), level, frames)
    splits = []
    if split_file:
        splits = [read_split_file(split_file, found.paths)]
    elif in_split and not draw:
        splits = folder_splits(found.paths, frames)
        print(f"split: by the folders of {frames}")
    return Sorted(folders, sorted({*folders.values()}), splits, "of the names")


def check_classes(frames: Path, classes: list[str], names: Collection[str]) -> None:
    """Refuses videos of a single class, of which every network is right; says which look alike."""
    if len(classes) == 1:
        tops = {name.split("/")[0] for name in names if name.count("/") > 1}
        inner = f", perhaps {frames / tops.pop()}" if len(tops) == 1 else ""
        raise UserError(
            f"all videos of {frames} are of one class, '{classes[0]}'; name the folder that "
            f"has all class folders in it{inner}"
        )
    by_letters = defaultdict(list)
    for name in classes:
        by_letters[unicodedata.normalize("NFKC", name).casefold()].append(name)
    for alike in by_letters.values():
        if len(alike) > 1:
            print(f"warning: classes that differ in their spelling alone: {', '.join(alike)}")


def deal_out(videos: dict[str, Video], splits: list[dict[str, str]]) -> dict[str, list[Video]]:
    """The two lists of each split, by their names."""
    lists = {}
    for i, sides in enumerate(splits):
        for side, other in (("train", "test"), ("test", "train")):
            chosen = [video for name, video in videos.items() if sides.get(name) == side]
            if not chosen:
                raise UserError(
                    f"no video is left for the {side} list, all {len(videos)} go to {other}; "
                    "add videos, or say with --split-file where each belongs"
                )
            lists[f"{side}list{i + 1:02}"] = chosen
    return lists
