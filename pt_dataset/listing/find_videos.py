"""What lies below a folder: videos in whatever form, the optical flow beside them, their lengths.

A video goes by its name: its path below that folder, without the suffix of a file.
"""

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from config import UserError, plural, refuse
from pt_dataset.formats.flow import count_flow
from pt_dataset.formats.frame_names import FLOW_PREFIXES, FRAME_NAME, TAILED_NAME
from pt_dataset.formats.measure import Measured, measure
from pt_dataset.formats.zip_frames import open_archive, zip_videos
from pt_dataset.listing.folders import leads_inside
from pt_dataset.listing.made_from import rate_noted
from pt_dataset.sources import VIDEO_NAME
from pt_dataset.video_list import Video

UV = {"u", "v"}  # the folders of the two parts of flow
FLOW_FOLDERS = ("tvl1_flow", "flow")  # names of the folder of flow beside one of frames
# what holds videos but is not read in place
PACKED = re.compile(r".*\.(tar|tgz|tar\.\w+|rar|7z)", re.IGNORECASE)
BAD_FRAMES = "bad frames"  # so begins what is wrong with a video that is not left out
FORMS = "folders of numbered pictures, video files, or zips of such folders"


@dataclass
class Found:
    """What lies below a folder; everything by name."""

    paths: dict[str, str] = field(default_factory=dict)  # of videos: what can be opened
    counts: dict[str, int] = field(default_factory=dict)  # of frames, where a zip says so at once
    flow_paths: dict[str, str] = field(default_factory=dict)  # of u and v: by the path below them
    problems: list[str] = field(default_factory=list)  # videos that cannot be used, and why
    others: list[str] = field(default_factory=list)  # folders with files that are no videos
    root: str = ""  # the real path of the folder

    def add_video(self, name: str, path: str) -> None:
        """Adds a video; UserError if another has its name, as frames and the file they are of."""
        if name.encode("utf-8", "replace").decode().splitlines() != [name] and name:
            self.problems.append(f"{name!r}: a name that a text file cannot hold; rename it")
        elif name in self.paths:
            raise UserError(
                f"{self.paths[name]} and {path} are the same video by their names; name a FRAMES "
                "that holds only one of them"
            )
        else:
            self.paths[name] = path


def find_videos(frames: Path) -> Found:
    """All videos and flow below a folder, or in one zip; UserError if there is none."""
    found = Found(root=os.path.realpath(frames))
    if frames.is_dir():
        _add_folder(str(frames), "", frozenset(), found)
    elif frames.suffix.lower() == ".zip" and frames.is_file():
        _add_zip(str(frames), "", found)
        _drop_shared_folder(found)
    else:
        refuse(PACKED.fullmatch(frames.name), f"{frames} cannot be read packed; unpack it first")
        raise UserError(f"{frames} is no folder and no zip; it should have {FORMS} in it")
    return found


def _add_folder(folder: str, name: str, above: frozenset, found: Found) -> None:
    """Adds what is in a folder; `above` holds the identities of the folders that it lies in."""
    try:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            found.problems.append(f"{folder}: a link to a folder that it lies in; remove it")
            return
        if name and leads_inside(folder, found.root):
            why = "a link to a folder that is in FRAMES itself; remove it"
            found.problems.append(f"{folder}: {why}")
            return
        content = _scan_folder(folder, found)
    except OSError as error:
        found.problems.append(f"{error.filename or folder}: {error.strerror}")
        return
    if content.has_flow:
        found.flow_paths[name] = folder
    if content.has_frames:
        found.add_video(name, folder)
        return
    if set(content.folders) == UV:  # and no others: these may be letters of a sign language
        for video in find_videos(Path(folder, "u")).paths:
            found.flow_paths[video] = os.path.join(folder, "{}", video)
        return
    for below in sorted(content.folders):
        _add_folder(os.path.join(folder, below), _join(name, below), above | {identity}, found)
    videos = [file for file in content.files if VIDEO_NAME.fullmatch(file)]
    zips = [file for file in content.files if file.lower().endswith(".zip")]
    named = set()  # clip.avi is clip, and clip.mp4 beside it clip.mp4, as extract_frames.py does
    for file in sorted(videos):
        stem = os.path.splitext(file)[0]
        found.add_video(_join(name, file if stem in named else stem), os.path.join(folder, file))
        named.add(stem)
    for file in sorted(zips):
        _add_zip(os.path.join(folder, file), _join(name, file[: -len(".zip")]), found)
    packed = [file for file in content.files if PACKED.fullmatch(file)]
    found.problems += [f"{folder}/{file} cannot be read packed; unpack it first" for file in packed]
    if not (content.has_flow or content.folders or videos or zips or packed):
        why = f"{folder}: no frames and no video"
        if content.files:
            found.others.append(f"{why}, but {plural(len(content.files), 'other file')}")
        else:
            found.problems.append(f"{why} in this folder")


class Content(NamedTuple):
    """What lies in a folder; incomplete where it has frames, which settle what it is."""

    has_frames: bool
    has_flow: bool
    folders: list[str]
    files: list[str]


def _scan_folder(folder: str, found: Found) -> Content:
    folders: list[str] = []
    files: list[str] = []
    has_flow = has_tailed = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(FLOW_PREFIXES):
                has_flow = True
            elif FRAME_NAME.fullmatch(entry.name) and not entry.is_dir():
                # a video, whatever the hundreds of other files are
                has_flow |= os.path.exists(os.path.join(folder, f"{FLOW_PREFIXES[0]}00001.jpg"))
                return Content(True, has_flow, folders, files)
            elif entry.name[0] != ".":
                try:
                    is_folder = entry.is_dir()
                except OSError as error:  # a link to itself
                    is_folder = False
                    found.problems.append(f"{entry.path}: {error.strerror}")
                (folders if is_folder else files).append(entry.name)
                has_tailed |= not is_folder and bool(TAILED_NAME.fullmatch(entry.name))
    # beside videos these are pictures of them
    has_frames = has_tailed and not any(map(VIDEO_NAME.fullmatch, files))
    return Content(has_frames, has_flow, folders, files)


def _add_zip(path: str, name: str, found: Found) -> None:
    try:
        members, flow = zip_videos(path), open_archive(path).flow_folders()
        with zipfile.ZipFile(path) if not members else nullcontext() as archive:
            others = archive.namelist() if archive else []
    except (UserError, zipfile.BadZipFile) as error:
        found.problems.append(str(error))
        return
    if not members and not flow:
        videos = [name for name in others if VIDEO_NAME.fullmatch(name)]
        why = f"{plural(len(videos), 'video')}, which cannot be read packed; unpack it first"
        found.problems.append(f"{path}: no frames in this zip{', but ' + why if videos else ''}")
    for member in flow:
        found.flow_paths[_join(name, member)] = _join(path, member)
    in_folder = defaultdict(set)  # names in a folder, by the names that lead to it
    for member in members:
        steps = member.split("/")
        for i, step in enumerate(steps):
            in_folder[(*steps[:i],)].add(step)
    for member, count in members.items():
        steps = member.split("/")
        places = (i for i, step in enumerate(steps) if step in UV)
        place = next((i for i in places if in_folder[(*steps[:i],)] == UV), None)
        if place is not None:
            below = steps[place + 1 :]
            found.flow_paths["/".join(below)] = "/".join([path, *steps[:place], "{}", *below])
            continue
        found.add_video(_join(name, member), _join(path, member))
        if count:  # 0: something is wrong with it, which counting again will say
            found.counts[_join(name, member)] = count


def _drop_shared_folder(found: Found) -> None:
    """Drops the first folder of all names in a zip where they share it: it was packed itself."""
    names = list(found.paths) + list(found.flow_paths)
    top = names[0].split("/")[0] + "/" if names else "/"
    if all(name.startswith(top) and name.count("/") > 1 for name in names):
        tables: tuple[dict[str, Any], ...] = (found.paths, found.counts, found.flow_paths)
        for table in tables:
            shorter = {name.removeprefix(top): value for name, value in table.items()}
            table.clear()
            table.update(shorter)


def _join(name: str, below: str) -> str:
    return f"{name}/{below}" if name and below else name or below


class Names:
    """Finds a name by a path that begins elsewhere: longer or shorter than the name."""

    def __init__(self, names: Collection[str]):
        self.names = names
        self.by_last = defaultdict(list)
        for name in names:
            self.by_last[name.rpartition("/")[2]].append(name)

    def find(self, path: str) -> str | None:
        """The name that `path` ends with, or the only one that ends with `path`."""
        same_end = self.by_last.get(path.rpartition("/")[2], ())
        inside = [name for name in same_end if f"/{path}".endswith(f"/{name}")]
        if inside:
            return max(inside, key=len)
        around = [name for name in same_end if name.endswith(f"/{path}")]
        return around[0] if len(around) == 1 else None


def find_video(path: str, names: Names) -> str | None:
    """The name of the video that a line of a list means, with a suffix or without, or None."""
    path = os.path.normpath(path.replace("\\", "/"))
    return names.find(path) or names.find(re.sub(r"\.\w+$", "", path))


def find_flow(frames: Path, found: Found, flow: Path | None) -> dict[str, str]:
    """The flow path of videos by name: in the folder `flow` if named, else with or beside them.

    Raises:
        UserError: there is no flow in `flow`, or none of the videos.
    """
    flow_paths = dict(found.flow_paths)
    beside = [frames.parent / f"{name}{end}" for name in FLOW_FOLDERS for end in ("", ".zip")]
    for folder in [flow] if flow else [path for path in beside if path.exists()]:
        flow_paths |= find_videos(folder).flow_paths
    names = Names(flow_paths)
    places = {name: names.find(name) for name in found.paths}
    matches = {name: flow_paths[end] for name, end in places.items() if end is not None}
    if flow and not matches:
        raise UserError(
            f"{flow} has no flow of these videos; it needs u/VIDEO and v/VIDEO, or VIDEO with "
            "files flow_x_00001.jpg and flow_y_00001.jpg in it"
        )
    return matches


def measure_videos(
    found: Found, wanted: Iterable[str], flow_paths: dict[str, str], any_numbers: bool = False
) -> tuple[dict[str, Video], list[str]]:
    """Counts the frames of the videos with the names `wanted`, several at a time.

    `any_numbers`: gaps between the numbers of pictures are meant.

    Returns:
        videos by name, still without label and class; and what is wrong with them or the others.
    """
    wanted = list(wanted)
    videos: dict[str, Video] = {}
    problems: list[str] = []
    # threads: the work is waiting for the disk, and decoding that lets others run
    with ThreadPool(min(32, 4 * (os.cpu_count() or 1))) as pool:
        results = pool.imap(
            partial(measure_video, found, flow_paths, any_numbers), wanted, chunksize=8
        )
        few = len(wanted) < 2 or None  # None: no bar either where nobody sees it
        bar = tqdm(results, "counting frames", len(wanted), unit="video", disable=few)
        for name, (video, problem) in zip(wanted, bar, strict=True):
            if video:
                videos[name] = video
            if problem:
                problems.append(problem)
    return videos, problems


def measure_video(
    found: Found, flow_paths: dict[str, str], any_numbers: bool, name: str
) -> tuple[Video | None, str | None]:
    """A video with its length and rate, or None, and what is wrong with it or its flow, if any.

    Flow has to have at least one field fewer than there are frames.
    """
    path, flow_path = found.paths[name], flow_paths.get(name)
    try:
        count = found.counts.get(name)
        measured = Measured(count) if count else measure(path, any_numbers)
        count = measured.num_frames
        video = Video(path, -1, "", count, measured.fps or rate_noted(path, count))
    except UserError as error:
        return None, str(error)
    said = f"{BAD_FRAMES}: {path}: {measured.damage()}" if measured.bad else None
    if flow_path is None or count == 1:
        return video, said
    try:
        fields = count_flow(flow_path)
    except UserError as error:
        return video, f"the flow of {name}: {error}"
    if fields < count - 1:
        frames = plural(fields + 1, "frame")
        return video, f"the flow of {name}: {flow_path}: flow of {frames}, of {count}"
    return video._replace(flow_path=flow_path), said
