"""What the command-line tools share: a pool of workers, and folders that go on after a stop."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from config import UserError
from pt_dataset.datalist import write_atomic

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
GOES_ON = "what is finished stays, and the same command goes on from there"


def exit_status(run: Callable[..., int], output: Path | str, note: str = GOES_ON, **opts) -> int:
    """run(**opts), where what went wrong is one sentence and a status.

    Args:
        run: the tool; returns its exit status.
        output: what to name where an error of the operating system names no file.
        note: how to go on, the end of the sentence.
        **opts: options of the tool.
    """
    try:
        return run(**opts)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # the disk is full, or not ours to write to
        print(f"error: {error.filename or output}: {error.strerror}; {note}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"stopped; {note}", file=sys.stderr)
        return INTERRUPTED
    return 1


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


def result_folders(videos: list[Path], frame_folders: list[Path] = ()) -> dict[Path, Path]:
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
        write_atomic(path, json.dumps(settings) + "\n")
        return
    if earlier != json.dumps(settings):
        raise UserError(
            f"{path.parent} has {what} made with {earlier}; use these, or name a new folder"
        )


def fill_folder(folder: Path, fill: Callable[[Path], int]) -> tuple[int, str]:
    """Makes `folder` with what `fill` writes into it; it appears when it is complete.

    Returns:
        what `fill` returns, and why there is no folder, from its ValueError, or "".
    """
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir(parents=True)
    try:
        count = fill(unfinished)
    except ValueError as error:
        shutil.rmtree(unfinished)
        return 0, str(error)
    unfinished.rename(folder)
    return count, ""


def fill_folders(
    job: Callable, todo: list[tuple[Path, Path]], dst: Path, workers: int, verb: str
) -> tuple[int, list[tuple[Path, str]]]:
    """Runs job(video, folder) -> (video, count, reason) for each of `todo`, with progress.

    Args:
        job: fills dst/folder by `fill_folder`.
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
    """Removes what an earlier run, or this one, left in the middle of a video."""
    for parent in parents:
        for unfinished in parent.glob(".*.partial"):
            shutil.rmtree(unfinished)


def run_jobs(job: Callable, todo: list[tuple], workers: int) -> Iterator:
    """Results of job(*item) for the items of `todo` as they come; ends its workers when closed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker) as pool:
        try:
            items = iter(todo)
            at_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)  # new workers inherit that
            pending = {pool.submit(job, *item) for item in islice(items, 4 * workers)}
            signal.signal(signal.SIGINT, at_ctrl_c)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {pool.submit(job, *item) for item in islice(items, len(done))}
                yield from (future.result() for future in done)
        except BaseException as error:  # Ctrl-C and a closed iterator, too
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(f"a worker died, perhaps for lack of memory; {GOES_ON}") from None
            raise


def start_worker() -> None:
    """Ties the life of a worker to the process that started it, even where that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all, the parent answers

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
