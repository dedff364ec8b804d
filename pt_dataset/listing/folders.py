"""Folders that tools read and fill: each result is whole or not there, so that a stop costs little.

A tool makes a folder of frames, or of flow, for each video.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from config import UserError, whole
from pt_dataset.listing.pool import run_jobs

# write(video, folder, settings) -> how many pictures; a ValueError says why a video is broken
Writer = Callable[[Path, Path, dict], int]


def walk(src: Path, dst: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders below `src`, itself included, but not `dst`, each with the names of its files.

    Links to folders are followed, each folder once; hidden folders are left out. OSError if one
    cannot be read.
    """
    seen = {os.path.realpath(dst)}  # a link to a folder above itself would never end

    def fail(error: OSError):
        raise error

    for folder, folders, names in os.walk(src, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if real not in seen and name[0] != ".")
        if real not in seen:
            yield Path(folder), names
        seen.add(real)


def result_folders(videos: list[Path], frame_folders: Sequence[Path] = ()) -> dict[Path, Path]:
    """The relative folder for what is made of each video.

    That of a video file is its path without the suffix; the suffix stays where that folder is
    another video's already, or has videos in it. That of a frame folder has its name.
    """
    folders = {folder: folder for folder in frame_folders}
    taken = {parent for path in (*videos, *frame_folders) for parent in path.parents} | {*folders}
    for video in videos:
        folders[video] = video if video.with_suffix("") in taken else video.with_suffix("")
        taken.add(folders[video])
    return folders


def check_settings(path: Path, settings: dict, what: str, is_there: bool) -> None:
    """Notes in `path` how its folder is filled, or refuses where `what` was made in another way."""
    try:
        earlier = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if is_there:
            raise UserError(
                f"{path.parent} has {what} of another origin; name a new folder"
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            temporary.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return
    if earlier != json.dumps(settings):
        raise UserError(
            f"{path.parent} has {what} made with {earlier}; use these, or name a new folder"
        )


class Filled(NamedTuple):
    """What `fill_folders` did."""

    num_done: int
    num_before: int  # were there already
    total: int  # frames, or fields of flow, of those that are done
    broken: list[tuple[Path, str]]  # videos that could not be done, and why, sorted


def fill_folders(
    write: Writer,
    folders: dict[Path, Path],
    settings: dict,
    *,
    src: Path,
    dst: Path,
    tool: str,
    what: str,
    workers: int,
) -> Filled:
    """Fills a folder below `dst` for each video below `src` that has none yet, with progress.

    Args:
        folders: the folder of each video, see `result_folders`.
        settings: of `write`, kept in a file that has the name of the `tool`.
        what: what the folders have in them.
    """
    todo = [(video, folder) for video, folder in folders.items() if not (dst / folder).is_dir()]
    num_before = len(folders) - len(todo)
    check_settings(dst / f"{tool}.json", settings, what, num_before > 0)
    parents = {(dst / folder).parent for _, folder in todo}
    remove_unfinished(parents)
    jobs = [(write, src / video, dst / folder, settings) for video, folder in todo]
    results = run_jobs(fill_folder, jobs, workers)
    total, broken = 0, []
    try:
        for video, count, reason in tqdm(results, what, len(todo), unit="video", disable=not todo):
            total += count
            if reason:
                broken.append((video, reason))
    finally:
        results.close()
        remove_unfinished(parents)
    return Filled(len(todo) - len(broken), num_before, total, sorted(broken))


def fill_folder(write: Writer, video: Path, folder: Path, settings: dict) -> tuple[Path, int, str]:
    """A job of the pool; returns the video, how many pictures, and why it is broken or "".

    The folder appears when it is complete.
    """
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir(parents=True)
    try:
        count = write(video, unfinished, settings)
        unfinished.rename(folder)
        return video, count, ""
    except ValueError as error:
        return video, 0, str(error)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(parents: set[Path]) -> None:
    """Removes what workers that were killed, of this run or an earlier one, left of a video."""
    for parent in parents:
        for unfinished in parent.glob(".*.partial"):
            shutil.rmtree(unfinished)
