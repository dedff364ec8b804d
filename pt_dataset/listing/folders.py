"""Folders that tools read and fill: each result is whole or not there, so that a stop costs little.

A tool makes a folder of frames, or of flow, for each video, or another video file.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from config import MARK, UserError, owned, plural, remove_unfinished, unfinished, whole
from pt_dataset.listing.made_from import Source, add_note, are_same, read_notes, take_note
from pt_dataset.listing.pool import run_jobs


class Written(NamedTuple):
    """What was made of a video."""

    num_pictures: int
    damage: str = ""  # what is wrong with some of them
    fps: float | None = None  # of frames, which do not tell it themselves


# write(video, result, settings) makes that folder or file; a ValueError names a broken video and
# says why it is
Writer = Callable[[Path, Path, dict], Written]
LONGEST_NAME = 255  # bytes, of a file


def walk(src: Path, dst: Path, problems: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Folders below `src`, itself included, but not `dst`, each with the names of its files.

    Links to folders elsewhere are followed, each folder once; hidden folders are left out.
    `problems` gets a sentence for each folder that cannot be read; OSError if that is `src` itself.
    """
    seen = {os.path.realpath(dst)}  # a link to a folder above itself would never end
    root = os.path.realpath(src)

    def leave_out(error: OSError):
        if error.filename == str(src):
            raise error
        problems.append(f"{error.filename}: {error.strerror}")

    for folder, folders, names in os.walk(src, followlinks=True, onerror=leave_out):
        real = os.path.realpath(folder)
        folders[:] = sorted(
            name
            for name in folders
            if real not in seen and name[0] != "." and not leads_inside(f"{folder}/{name}", root)
        )
        if real not in seen:
            yield Path(folder), names
        seen.add(real)


def leads_inside(path: str, root: str) -> bool:
    """Is this a link to what is found below the folder `root` anyway, a real path?

    That is by its true name. What lies in a hidden folder, such as a store of git-annex, is not.
    """
    if not os.path.islink(path):
        return False
    below = os.path.relpath(os.path.realpath(path), root)
    return not any(name.startswith(".") for name in below.split(os.sep))  # nor .. elsewhere


def result_folders(videos: list[Path], frame_folders: Sequence[Path] = ()) -> dict[Path, Path]:
    """The relative folder for what is made of each video.

    That of a video file is its path without the suffix; the suffix stays where that folder is
    another video's already, or has videos in it. That of a frame folder has its name.
    """
    folders = {folder: folder for folder in frame_folders}
    taken = {parent for path in (*videos, *frame_folders) for parent in path.parents} | {*folders}
    return folders | without_suffix(videos, taken)


def without_suffix(videos: list[Path], taken: set[Path]) -> dict[Path, Path]:
    """The path of each video without its suffix, which stays where that path is `taken`."""
    names = {}
    for video in videos:
        names[video] = video if video.with_suffix("") in taken else video.with_suffix("")
        taken.add(names[video])
    return names


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
    num_again: int  # of those: had been made of another video
    num_before: int  # were there already
    total: int  # frames, or fields of flow, of those that are done
    broken: list[str]  # which videos could not be done, and why, sorted
    damaged: list[str]  # what is wrong with some pictures of those that are done, sorted

    def again_in_words(self) -> str:
        """For the summary, after what was done."""
        return f", {self.num_again} of them again as the video has changed" * bool(self.num_again)


def fill_folders(
    write: Writer,
    results: dict[Path, Path],
    settings: dict,
    *,
    src: Path,
    dst: Path,
    tool: str,
    what: str,
    workers: int,
) -> Filled:
    """Makes what is not there yet of the videos below `src`, in the folder `dst`, with progress.

    Args:
        results: the folder or file below `dst` for each video, see `result_folders`.
        settings: of `write`, kept in a file that has the name of the `tool`.
        what: what is made.
    """
    with owned(dst, inside=True) as killed:
        finished = [video for video, result in results.items() if (dst / result).exists()]
        check_settings(dst / f"{tool}.json", settings, what, bool(finished))
        notes = dst / f"{tool}.sources.jsonl"
        done = {*finished} - videos_of_others(finished, results, src, notes)
        todo = [video for video in results if video not in done]
        parents = {(dst / results[video]).parent for video in todo}
        remove_unfinished(parents, killed)
        jobs = [
            # names of this process, whose workers may be ended without a chance to clear up
            (write, src / video, dst, results[video], unfinished(dst / results[video]))
            + (settings, notes)
            for video in todo
        ]
        answers = run_jobs(fill_place, jobs, workers)
        total, num_again, broken, damaged = 0, 0, [], []
        try:
            for count, again, why in tqdm(answers, what, len(todo), unit="video", disable=not todo):
                total += count
                num_again += again
                if why:
                    (damaged if count else broken).append(why)
        finally:
            answers.close()
            remove_unfinished(parents, MARK)  # of workers that were ended
    num_done = len(todo) - len(broken)
    return Filled(num_done, num_again, len(done), total, sorted(broken), sorted(damaged))


def videos_of_others(
    finished: list[Path], results: dict[Path, Path], src: Path, notes: Path
) -> set[Path]:
    """Those of `finished` whose result was made of another video; says what cannot be checked."""
    earlier = read_notes(notes)
    noted = [video for video in finished if str(results[video]) in earlier]
    if len(noted) < len(finished):
        print(
            "whether the video has changed was not checked for "
            f"{plural(len(finished) - len(noted), 'result')} in {notes.parent}, of which "
            f"{notes.name} has no note, as earlier versions wrote none"
        )
    pairs = [(Source(str(src / video)), earlier[str(results[video])]) for video in noted]
    return {video for video, same in zip(noted, are_same(pairs), strict=True) if not same}


def fill_place(
    write: Writer, video: Path, dst: Path, name: Path, new: Path, settings: dict, notes: Path
) -> tuple[int, bool, str]:
    """A job of the pool: how many pictures, do they replace others, and what is wrong or "".

    Without a picture, the video is broken. The result, `new` until then, appears when it is
    complete. What is in its place stays until then.
    """
    result = dst / name
    old = new.with_name(f".{new.name}")  # no other's: nothing here has a hidden name
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        note = take_note(Source(str(video)))  # before: what changes meanwhile is done again
        count, damage, fps = write(video, new, settings)
        note |= {"num_frames": count, "fps": fps} if fps else {}
        again = result.exists()
        if again:
            result.rename(old)
        # at no moment is there a result beside the note of another video
        add_note(notes, str(name), note)
        new.rename(result)
        return count, again, damage
    except ValueError as error:
        stays = f"; {result} stays as it was made before" if result.exists() else ""
        return 0, False, f"{error}{stays}"
    finally:
        remove(new)
        remove(old)


def remove(path: Path) -> None:
    """Removes a file or a folder that may be there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
