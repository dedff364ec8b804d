"""The videos that paths mean, and names for what is written of them."""

import os
from collections.abc import Iterable
from pathlib import Path

from config import Clip, UserError, refuse
from pt_dataset.datalist import provide_classes, read_classes, read_list
from pt_dataset.formats.measure import measure
from pt_dataset.listing.find_videos import PACKED, find_flow, find_videos, measure_videos
from pt_dataset.sources import VIDEO_NAME, exists
from pt_dataset.video_list import Video


def videos_at(
    paths: Iterable[str], modality: str = "rgb", fps: float | None = None
) -> tuple[list[Video], list[tuple[str, str]]]:
    """The videos that are meant by paths: video files, frame folders, zips, folders of them, lists.

    Args:
        modality: of "flow", optical flow is looked for beside the frames, as make_json.py does.
        fps: frames a second of those that do not say it themselves.

    Returns:
        Videos, with label and class only of a list, and (path, why) of what cannot be used.
    """
    videos, problems = {}, []  # a video that is named twice is one
    for path in paths:
        try:
            found, reasons = _videos_at(path, modality)
        except (UserError, OSError) as error:
            found, reasons = [], [str(error)]
        videos |= {video.path: video._replace(fps=video.fps or fps) for video in found}
        problems += [(path, reason) for reason in reasons]
    return list(videos.values()), problems


def _videos_at(path: str, modality: str) -> tuple[list[Video], list[str]]:
    if not (os.path.exists(path) or exists(path)):  # a zip without frames is there as well
        raise UserError(f"{path}: there is no such file or folder")
    if path.endswith(".json"):
        return list(read_list(Path(path), read_classes(provide_classes(Path(path).parent)))[0]), []
    is_folder = Path(path).is_dir()
    if is_folder or Path(path).suffix.lower() == ".zip":
        found = find_videos(Path(path))
        flow_paths = find_flow(Path(path), found, None) if modality == "flow" else {}
        by_name, reasons = measure_videos(found, sorted(found.paths), flow_paths)
        reasons = found.problems + reasons
        if not by_name and not reasons:
            reasons = [f"{path}: no video in this folder"]
        return [by_name[name] for name in sorted(by_name)], reasons
    refuse(PACKED.fullmatch(path), f"{path} cannot be read packed; unpack it first")
    measured = measure(path)
    problems = [f"{path}: {measured.damage()}"] if measured.bad else []
    return [Video(path, -1, "", measured.num_frames, measured.fps)], problems


def usable(
    videos: Iterable[Video], clip: Clip, timed: bool = False
) -> tuple[list[Video], list[tuple[str, str]]]:
    """The videos that make such clips, `timed` with known rates; (path, why) of the rest."""
    good, problems = [], []
    for video in videos:
        why = None
        if clip.modality == "flow" and (video.flow_path is None or video.num_frames < 2):
            why = "the network sees optical flow; compute it with pt_dataset/extract_flow.py"
        elif (timed or clip.needs_rates()) and not video.fps:
            why = "frames do not tell their rate; give it with --fps"
        if why:
            problems.append((video.path, f"{video.path}: {why}"))
        else:
            good.append(video)
    return good, problems


def name_of(video: Video, roots: Iterable[str]) -> str:
    """A name for what is written of a video: its path below the one of `roots` it was found in.

    That of a video elsewhere, which a list may name, is its whole path.
    """
    path = video.path
    for root in roots:
        folder = root if os.path.isdir(root) else os.path.dirname(root)
        try:
            below = os.path.relpath(path, folder or ".")
        except ValueError:  # on another drive of Windows
            continue
        if below == ".":
            below = os.path.basename(os.path.abspath(path))
        if not below.startswith(".."):
            break
    else:
        below = os.path.splitdrive(os.path.abspath(path))[1].lstrip("/" + os.sep)
    return os.path.splitext(below)[0] if VIDEO_NAME.fullmatch(os.path.basename(below)) else below
