"""JSON lists of videos: the only reader and writer of them.

A list is an array of objects {"path", "class_name", "label", "num_frames"}. `path` is relative to
the list's folder, or absolute. `class_name` decides: a label that disagrees with classes.txt is
replaced.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from config import UserError

KEYS = ("path", "class_name", "label", "num_frames")
LEGACY_ROOT = "./videos_dataset/"  # how the lists of the original project begin


class Video(NamedTuple):
    """One entry of a list; `path` can be opened as it is."""

    path: str
    label: int
    class_name: str
    num_frames: int
    fps: float | None = None  # where it is known
    flow_path: str | None = None


def read_classes(path: Path) -> list[str]:
    """Class names, label 0 first, from a text file with one a line."""
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; it holds one class name a line, label 0 first"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None
    names = [name for name in names if name]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} names the class '{twice}' more than once")
    return names


def read_list(path: Path, class_names: list[str]) -> tuple[list[Video], int]:
    """The videos of a list, and how many carried another label than `class_names` says.

    Raises:
        UserError: no such file, not JSON, a key is missing or of a wrong type, or an unknown class;
            it names the entry.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    videos, num_remapped = [], 0
    for i, entry in enumerate(_load_array(path)):
        where = f"{path}: entry {i}"
        if not isinstance(entry, dict):
            raise UserError(f"{where} is not an object with the keys {', '.join(KEYS)}")
        for key, kind in zip(KEYS, (str, str, int, int), strict=True):
            if key not in entry:
                raise UserError(
                    f"{where} has no '{key}'; pt_dataset/make_json.py writes complete lists"
                )
            if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
                raise UserError(f"{where}: '{key}' is {entry[key]!r}, which is no {kind.__name__}")
        name = entry["class_name"]
        if name not in labels:
            raise UserError(
                f"{where}: class '{name}' is not among the {len(labels)} of classes.txt"
            )
        if entry["num_frames"] < 1:
            raise UserError(
                f"{where}: '{entry['path']}' has {entry['num_frames']} frames; remove it from the "
                f"list"
            )
        num_remapped += entry["label"] != labels[name]
        videos.append(
            Video(resolve(entry["path"], path.parent), labels[name], name, entry["num_frames"])
        )
    return videos, num_remapped


def write_list(path: Path, videos: list[Video]) -> None:
    """Writes a list, whole or not at all; paths below its folder become relative to it."""
    entries = [video._asdict() | {"path": _relative(video.path, path.parent)} for video in videos]
    text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"
    write_atomic(path, text)


def write_atomic(path: Path, text: str) -> None:
    """Writes a text file so that a reader finds the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def resolve(path: str, list_folder: Path) -> str:
    """What to open for the `path` of an entry; `list_folder` is <data-root>/NAME."""
    if path.startswith(LEGACY_ROOT):
        folder, _, rest = path.removeprefix(LEGACY_ROOT).partition("/")
        # UCF101 in the list may be ucf101 on the disk
        same = folder.lower() == list_folder.name.lower()
        return str((list_folder if same else _any_case(list_folder.parent, folder)) / rest)
    return str(list_folder / path)  # an absolute path stays what it is


def _any_case(root: Path, folder: str) -> Path:
    names = os.listdir(root) if root.is_dir() else []
    return root / next((name for name in names if name.lower() == folder.lower()), folder)


def _relative(path: str, folder: Path) -> str:
    path, folder = Path(path).absolute(), folder.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _load_array(path: Path) -> list:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no list {path}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path} does not hold a JSON array of videos")
    if not entries:
        raise UserError(f"{path} holds no videos")
    return entries
