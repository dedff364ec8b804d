"""What the folders above videos are: a split that was made before, classes, recordings."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from config import UserError
from pt_dataset.listing.known_sets import SIDES

INNER = {"frames", "images", "img", "imgs", "jpg", "rgb"}  # folders of pictures in that of a video


def top_of(name: str) -> str:
    """The first folder of a video, in lower case."""
    return name.split("/")[0].lower()


def has_split(names: Iterable[str]) -> bool:
    """Whether the first folders are a split: only such as train, val and test."""
    return {top_of(name) for name in names} <= SIDES.keys()


def folder_splits(names: Collection[str], frames: Path) -> list[dict[str, str]]:
    """The splits that the first folders make: the side, "train" or "test", by name.

    Folders for validation and for test are two splits, which share the videos of training.

    Raises:
        UserError: videos to train on are missing, or the others.
    """
    parts = {}
    for name in names:
        is_train, is_test = SIDES[top_of(name)] == "train", top_of(name).startswith("test")
        parts[name] = "train" if is_train else "test" if is_test else "val"
    others = sorted({*parts.values()} - {"train"}, reverse=True)  # val before test
    if not others or "train" not in parts.values():
        one = next(iter(names)).split("/")[0]
        raise UserError(
            f"{frames} has a folder {one}, but none to {'train' if others else 'test'} on; name "
            f"{frames / one} to have a split drawn, or say --class-level 1 if that is a class"
        )
    return [
        {
            name: "train" if part == "train" else "test"
            for name, part in parts.items()
            if part in ("train", other)
        }
        for other in others
    ]


def folders_above(names: Collection[str]) -> dict[str, list[str]]:
    """The folders below FRAMES that each video lies in, the outermost first."""
    last = {name.rpartition("/")[2].lower() for name in names}
    end = -2 if last <= INNER else -1
    return {name: name.split("/")[:end] for name in names}


def check_level(folders: Collection[Sequence[str]], level: int, frames: Path) -> None:
    """Refuses folders that are so many levels below FRAMES if those in them may as well be classes.

    Raises:
        UserError: they have the same names in several, as in person1/walk and person2/walk.
    """
    above = defaultdict(set)
    for steps in folders:
        if len(steps) <= level:
            return
        above[steps[level]].add(steps[level - 1])
    shared = sorted(name for name, tops in above.items() if len(tops) > 1)
    if shared:
        tops = sorted(set.union(*above.values()))
        raise UserError(
            f"{frames} has folders in folders, and {in_words(shared)} in several of "
            f"{in_words(tops)}; say which are the classes: --class-level {level} for "
            f"{tops[0]}, --class-level {level + 1} for {shared[0]}"
        )


def in_words(names: list[str]) -> str:
    """The first few of some names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
