"""JSON lists of videos: the only reader and writer of them.

A list is an array of objects {"path", "class_name", "label", "num_frames"}, where they are known
also "fps" and "flow_path". Paths are relative to the list's folder, or absolute. `class_name`
decides: a label that disagrees with classes.txt is replaced.
"""

import json
import os
import reprlib
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from config import DATASETS, UserError, refuse, whole
from pt_dataset.video_list import Video, VideoList

KEYS = {"path": str, "class_name": str, "label": int, "num_frames": int}
LEGACY_ROOT = "./videos_dataset/"  # how the lists of the original project begin
LOWEST_FPS, MOST_FPS = 1e-6, 1e6  # a frame in 11 days; the fastest of cameras
MOST_FRAMES = 2**31 - 1  # 2 years; as many as the arrays of VideoList can count
HALF_REPLACED = ".lists.partial"  # beside lists while some are new and others old; kept by a kill
CLASS_FILES = Path(__file__).resolve().parents[1] / "videos_dataset"  # <known set>/classes.txt


def read_classes(path: Path) -> list[str]:
    """Class names, label 0 first, from a text file with one a line."""
    refuse(path.is_dir(), f"{path} is a folder; name a file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem = "is missing; it holds one class name a line, label 0 first"
        raise UserError(f"{path} {problem}") from None
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text ({error.reason} at byte {error.start})"
        raise UserError(f"{path} {problem}") from None
    names = [name for name in text.splitlines() if name]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} names the class '{twice}' more than once")
    return names


def provide_classes(folder: Path) -> Path:
    """The class file of a data set; one of a known set in a new data root is copied there."""
    path, tracked = folder / "classes.txt", CLASS_FILES / folder.name / "classes.txt"
    if not path.exists() and folder.name in DATASETS and tracked.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            shutil.copyfile(tracked, temporary)
    return path


def read_list(path: Path, class_names: list[str]) -> tuple[VideoList, int]:
    """The videos of a list, and how many carried another label than `class_names` says.

    Raises:
        UserError: the file or an entry, which it names, cannot be used.
    """
    entries, folder = load_array(path), path.parent
    labels = {name: label for label, name in enumerate(class_names)}
    for i, entry in enumerate(entries):
        problem = entry_problem(entry, labels)
        if problem:
            raise UserError(f"{path}: entry {i}{problem}")
    columns = {key: [entry.get(key) for entry in entries] for key in Video._fields}
    given, columns["label"] = columns["label"], [labels[name] for name in columns["class_name"]]
    num_remapped = sum(a != b for a, b in zip(given, columns["label"], strict=True))
    for key in ("path", "flow_path"):
        columns[key] = resolve(columns[key], folder)
    return VideoList.from_columns(**columns), num_remapped


def entry_problem(entry: object, class_names: Collection[str]) -> str:
    """Why an entry cannot be used, to be put right after what names it; "" for a good one."""
    if not isinstance(entry, dict):
        return f" is not an object with the keys {', '.join(KEYS)}"
    for key, kind in KEYS.items():
        if key not in entry:
            return f" has no '{key}'; pt_dataset/make_json.py writes complete lists"
        if type(entry[key]) is not kind:  # True is an int to isinstance
            return f": '{key}' is {reprlib.repr(entry[key])}, which is no {kind.__name__}"
    if entry["class_name"] not in class_names:
        return f": class '{entry['class_name']}' is not among the {len(class_names)} of classes.txt"
    if not 1 <= entry["num_frames"] <= MOST_FRAMES:
        return f": '{entry['path']}' has {entry['num_frames']} frames; remove it from the list"
    fps, flow_path = entry.get("fps"), entry.get("flow_path")
    if fps is not None and not (type(fps) in (float, int) and LOWEST_FPS <= fps <= MOST_FPS):
        return f": 'fps' is {reprlib.repr(fps)}, which is no number of frames a second"
    if flow_path is not None and type(flow_path) is not str:
        return f": 'flow_path' is {flow_path!r}, which is no str"
    for key in ("path", "flow_path"):
        if entry.get(key) and not is_file_name(entry[key]):
            return f": '{key}' is {entry[key]!r}, which can be the name of no file"
    return ""


def is_file_name(path: str) -> bool:
    if path.isascii():  # nearly all, and in a fifth of the time
        return "\0" not in path
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False


def write_list(path: Path, videos: Iterable[Video]) -> None:
    """Writes a list, whole or not at all; paths below its folder become relative to it."""
    with whole(path) as temporary:
        temporary.write_text(list_text(videos, path.parent), encoding="utf-8")


def list_text(videos: Iterable[Video], folder: Path) -> str:
    """The text of a list that is to lie in `folder`."""
    here, inside = os.getcwd(), os.path.join(folder.absolute(), "")
    encode = json.JSONEncoder(ensure_ascii=False).encode
    entries = []
    for video in videos:
        entry = {key: value for key, value in video._asdict().items() if value is not None}
        for key in entry.keys() & {"path", "flow_path"}:
            path = os.path.join(here, entry[key]).removeprefix(inside)
            entry[key] = path.replace(os.sep, "/")  # lists of Windows are read elsewhere, too
        entries.append(encode(entry))
    return "[\n" + ",\n".join(entries) + "\n]\n"


def resolve(paths: Iterable[str | None], list_folder: Path) -> list[str | None]:
    """What to open for the paths of a list; `list_folder` is <data-root>/NAME."""
    here = list_folder.as_posix().rstrip("/") + "/"
    folders = {}  # of the original project's data sets: UCF101 in a list may be ucf101 on the disk

    def openable(path: str | None) -> str | None:
        if path is None or os.path.isabs(path):
            return path
        if not path.startswith(LEGACY_ROOT):
            return here + path.removeprefix("./")
        name, _, rest = path.removeprefix(LEGACY_ROOT).partition("/")
        if name not in folders:
            same = name.lower() == list_folder.name.lower()
            folders[name] = list_folder if same else any_case(list_folder.parent, name)
        return f"{folders[name].as_posix()}/{rest}"

    # archives and names of videos are told by slashes, which Windows takes as well
    return [openable(path and path.replace(os.sep, "/")) for path in paths]


def any_case(root: Path, name: str) -> Path:
    """The folder `name` in `root`, in whatever case it is written there."""
    names = sorted(os.listdir(root)) if root.is_dir() else []
    if name in names:
        return root / name
    return root / next((other for other in names if other.lower() == name.lower()), name)


def load_array(path: Path) -> list:
    """The entries of a list, whatever they are."""
    refuse(path.is_dir(), f"{path} is a folder; name a file")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no list {path}") from None
    except (ValueError, RecursionError) as error:  # of text or of JSON
        raise UserError(f"{path} is not JSON: {error}") from None
    refuse(not isinstance(entries, list), f"{path} does not hold a JSON array of videos")
    refuse(not entries, f"{path} holds no videos")
    return entries
