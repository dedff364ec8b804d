"""Folders that tools read and fill: each result is whole or not there, so that a stop costs little.

A tool makes a folder of frames, or of flow, for each video.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from config import UserError, whole
from pt_dataset.listing.pool import run_jobs


def walk(src: Path, dst: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders below `src`, itself included, but not `dst`, each with the names of its files.

    Links to folders are followed, each folder once; hidden folders are left out.

    Raises:
        OSError: a folder cannot be read.
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


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to fill in place of `folder`, which appears when it is complete."""
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)


def fill_folders(
    job: Callable[..., tuple[Path, int, str]],
    todo: list[tuple[Path, Path]],
    dst: Path,
    workers: int,
    verb: str,
) -> tuple[int, list[tuple[Path, str]]]:
    """Runs job(video, folder) -> (video, count, reason) for each of `todo`, with progress.

    Args:
        job: fills dst/folder, a `whole_folder`.
        todo: videos and their folders below `dst`.
        dst: where the folders are.
        workers: processes.
        verb: what the progress bar says.

    Returns:
        the sum of the counts, and the videos without a folder with the reason, sorted.
    """
    parents = {(dst / folder).parent for _, folder in todo}
    remove_unfinished(parents)
    results = run_jobs(job, todo, workers)
    total, broken = 0, []
    try:
        for video, count, reason in tqdm(results, verb, len(todo), unit="video", disable=not todo):
            total += count
            if reason:
                broken.append((video, reason))
    finally:
        results.close()
        remove_unfinished(parents)
    return total, sorted(broken)


def remove_unfinished(parents: set[Path]) -> None:
    """Removes what workers that were killed, of this run or an earlier one, left of a video."""
    for parent in parents:
        for unfinished in parent.glob(".*.partial"):
            shutil.rmtree(unfinished)
