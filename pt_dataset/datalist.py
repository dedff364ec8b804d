"""JSON lists of videos: the only reader and writer of them.

A list is an array of objects {"path", "class_name", "label", "num_frames"}, where they are known
also "fps" and "flow_path". Paths are relative to the list's folder, or absolute. `class_name`
decides: a label that disagrees with classes.txt is replaced.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import DATASETS, UserError

KEYS = {"path": str, "class_name": str, "label": int, "num_frames": int}
LEGACY_ROOT = "./videos_dataset/"  # how the lists of the original project begin
MOST_FRAMES = 2**31 - 1  # 2 years at 30 frames a second; as many as the arrays below can count
CLASS_FILES = Path(__file__).resolve().parents[1] / "videos_dataset"  # <known set>/classes.txt


class Video(NamedTuple):
    """One entry of a list; `path` and `flow_path` can be opened as they are, see sources.py."""

    path: str
    label: int
    class_name: str
    num_frames: int
    fps: float | None = None  # where it is known
    flow_path: str | None = None


class Texts:
    """Many strings, or None, in one buffer: a list of them costs three times as much memory, and
    counting references to its members copies it into every forked process."""

    def __init__(self, texts: list[str | None]):
        known = [text for text in texts if text is not None]
        self.start = os.path.commonprefix([min(known), max(known)]) if known else ""
        cut = len(self.start)
        # surrogates stand for bytes of file names that are not UTF-8
        encoded = [b"" if t is None else t[cut:].encode("utf-8", "surrogatepass") for t in texts]
        self.ends = np.cumsum([0, *map(len, encoded)])
        self.missing = np.array([text is None for text in texts]) if None in texts else None
        self.data = b"".join(encoded)

    def __getitem__(self, index: int) -> str | None:
        if self.missing is not None and self.missing[index]:
            return None
        rest = self.data[self.ends[index] : self.ends[index + 1]]
        return self.start + rest.decode("utf-8", "surrogatepass")


class VideoList(Sequence):
    """Videos in a few arrays, cheap to fork and to pickle: about 100 bytes each."""

    def __init__(self, videos: Iterable[Video]):
        columns = list(zip(*videos, strict=True)) or [()] * len(Video._fields)
        self._fill(**dict(zip(Video._fields, columns, strict=True)))

    @classmethod
    def of_columns(cls, **columns: list) -> "VideoList":
        """The same from one list for each field of `Video`, without an object for each video."""
        videos = cls.__new__(cls)
        videos._fill(**columns)
        return videos

    def _fill(self, path, label, class_name, num_frames, fps, flow_path):
        self._paths = Texts(path)
        self._labels = np.array(label, np.int32)
        self._num_frames = np.array(num_frames, np.int32)
        self._class_names = list(dict.fromkeys(class_name))
        numbers = {name: i for i, name in enumerate(self._class_names)}
        self._classes = np.fromiter(map(numbers.get, class_name), np.int32, len(class_name))
        # most lists have none of these
        self._fps = np.array(fps, np.float64) if any(fps) else None  # None becomes nan
        self._flow_paths = Texts(flow_path) if any(flow_path) else None

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int | slice):
        if isinstance(index, slice):
            return VideoList(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]  # counts from the end, and knows where that is
        fps = None if self._fps is None else float(self._fps[index])
        return Video(
            self._paths[index],
            int(self._labels[index]),
            self._class_names[self._classes[index]],
            int(self._num_frames[index]),
            fps if fps == fps else None,
            self._flow_paths and self._flow_paths[index],
        )


def read_classes(path: Path) -> list[str]:
    """Class names, label 0 first, from a text file with one a line."""
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
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


def provide_classes(folder: Path) -> Path:
    """The class file of a data set; one of a known set in a new data root is copied there."""
    path, tracked = folder / "classes.txt", CLASS_FILES / folder.name / "classes.txt"
    if not path.exists() and folder.name in DATASETS and tracked.exists():
        write_atomic(path, tracked.read_text(encoding="utf-8"))
    return path


def read_list(path: Path, class_names: list[str]) -> tuple[VideoList, int]:
    """The videos of a list, and how many carried another label than `class_names` says.

    Raises:
        UserError: no such file, not JSON, a key is missing or of a wrong type, or an unknown class;
            it names the entry.
    """
    entries = load_array(path)
    labels = {name: label for label, name in enumerate(class_names)}
    columns = _columns(entries, labels)
    if columns is None:
        for i, entry in enumerate(entries):
            check_entry(f"{path}: entry {i}", entry, labels)
    given, names = columns["label"], columns["class_name"]
    columns["label"] = [labels[name] for name in names]
    num_remapped = sum(a != b for a, b in zip(given, columns["label"], strict=True))
    for key in ("path", "flow_path"):
        columns[key] = resolve(columns[key], path.parent)
    return VideoList.of_columns(**columns), num_remapped


def _columns(entries: list, labels: dict[str, int]) -> dict[str, list] | None:
    """The entries by key; None where `check_entry` would find something wrong.

    A million entries are looked at here without a line of Python for each.
    """
    if set(map(type, entries)) != {dict}:
        return None
    columns = {key: [entry.get(key) for entry in entries] for key in Video._fields}
    types = {key: set(map(type, column)) for key, column in columns.items()}
    good = (
        all(types[key] == {kind} for key, kind in KEYS.items())
        and types["fps"] <= {float, int, type(None)}
        and types["flow_path"] <= {str, type(None)}
        and labels.keys() >= set(columns["class_name"])
        and min(columns["num_frames"]) >= 1
        and max(columns["num_frames"]) <= MOST_FRAMES
        and all(0 < fps < float("inf") for fps in set(columns["fps"]) - {None})
    )
    return columns if good else None


def check_entry(where: str, entry: object, labels: dict[str, int]) -> None:
    """Raises UserError, which begins with `where`, if an entry cannot be used."""
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not an object with the keys {', '.join(KEYS)}")
    for key, kind in KEYS.items():
        if key not in entry:
            raise UserError(
                f"{where} has no '{key}'; pt_dataset/make_json.py writes complete lists"
            )
        if type(entry[key]) is not kind:  # True is an int to isinstance
            raise UserError(f"{where}: '{key}' is {entry[key]!r}, which is no {kind.__name__}")
    if entry["class_name"] not in labels:
        raise UserError(
            f"{where}: class '{entry['class_name']}' is not among the {len(labels)} of classes.txt"
        )
    if not 1 <= entry["num_frames"] <= MOST_FRAMES:
        raise UserError(
            f"{where}: '{entry['path']}' has {entry['num_frames']} frames; remove it from the list"
        )
    fps, flow_path = entry.get("fps"), entry.get("flow_path")
    if fps is not None and not (type(fps) in (float, int) and 0 < fps < float("inf")):
        raise UserError(f"{where}: 'fps' is {fps!r}, which is no number of frames a second")
    if flow_path is not None and type(flow_path) is not str:
        raise UserError(f"{where}: 'flow_path' is {flow_path!r}, which is no str")


def write_list(path: Path, videos: Iterable[Video]) -> None:
    """Writes a list, whole or not at all; paths below its folder become relative to it."""
    write_atomic(path, list_text(videos, path.parent))


def list_text(videos: Iterable[Video], folder: Path) -> str:
    """The text of a list that is to lie in `folder`."""
    here, inside = os.getcwd(), os.path.join(folder.absolute(), "")
    encode = json.JSONEncoder(ensure_ascii=False).encode
    entries = []
    for video in videos:
        entry = {key: value for key, value in video._asdict().items() if value is not None}
        for key in entry.keys() & {"path", "flow_path"}:
            entry[key] = os.path.join(here, entry[key]).removeprefix(inside)
        entries.append(encode(entry))
    return "[\n" + ",\n".join(entries) + "\n]\n"


def write_atomic(path: Path, text: str) -> None:
    """Writes a text file so that a reader finds the old one or the new one, never half of it."""
    write_together({path: text})


def write_together(texts: dict[Path, str]) -> None:
    """Writes text files as `write_atomic` does, and replaces none before all are on the disk."""
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in texts}
    try:
        for path, temporary in temporaries.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(texts[path], encoding="utf-8")
        for path, temporary in temporaries.items():
            temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def resolve(paths: Iterable[str | None], list_folder: Path) -> list[str | None]:
    """What to open for the paths of a list; `list_folder` is <data-root>/NAME."""
    here = os.path.join(list_folder, "")
    folders = {}  # of the original project's data sets: UCF101 in a list may be ucf101 on the disk

    def openable(path: str | None) -> str | None:
        if path is None or path[:1] == "/":
            return path
        if not path.startswith(LEGACY_ROOT):
            return here + path.removeprefix("./")
        name, _, rest = path.removeprefix(LEGACY_ROOT).partition("/")
        if name not in folders:
            same = name.lower() == list_folder.name.lower()
            folders[name] = list_folder if same else any_case(list_folder.parent, name)
        return f"{folders[name]}/{rest}"

    return [openable(path) for path in paths]


def any_case(root: Path, name: str) -> Path:
    """The folder `name` in `root`, in whatever case it is written there."""
    names = sorted(os.listdir(root)) if root.is_dir() else []
    if name in names:
        return root / name
    return root / next((other for other in names if other.lower() == name.lower()), name)


def load_array(path: Path) -> list:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no list {path}") from None
    except (ValueError, RecursionError) as error:  # of text or of JSON
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path} does not hold a JSON array of videos")
    if not entries:
        raise UserError(f"{path} holds no videos")
    return entries
