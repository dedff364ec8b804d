"""What results were made from: notes that tell a video from another one that takes its place.

A note does not depend on where the video lies, nor on its time where the content is the same.
"""

import functools
import hashlib
import json
import math
import os
from collections.abc import Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

from config import UserError, open_regular
from pt_dataset.formats.flow import open_flow
from pt_dataset.sources import is_video_file, open_frames
from pt_dataset.video_list import Video

EXTRACTED = "extract_frames.sources.jsonl"  # the notes of that command
SAMPLED = 8  # frames of a video whose bytes count; all of them would be as slow as the work itself
NUM_THREADS = min(32, 4 * (os.cpu_count() or 1))  # which wait for the disk most of the time
Note = dict[str, Any]


class Source(NamedTuple):
    """What is read of a video: the path of its file or frames, or that of its flow."""

    path: str
    is_flow: bool = False

    @classmethod
    def of(cls, video: Video, modality: str) -> "Source":
        """What a network of that modality sees of a video."""
        if modality == "flow" and video.flow_path:
            return cls(video.flow_path, True)
        return cls(video.path)


def take_note(source: Source) -> Note:
    """The note of a video file is on all of its bytes, that of frames on their names and some.

    Raises:
        UserError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if is_file(source):
            with open(source.path, "rb", opener=open_regular) as file:
                status = os.fstat(file.fileno())
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            size = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            return size | {"sha256": digest.hexdigest()}
        kinds = open_flow(source.path) if source.is_flow else [open_frames(source.path)]
        for pictures in kinds:
            count = len(pictures)
            names = (os.path.basename(pictures.name(i)) for i in range(count))
            digest.update("/".join(names).encode("utf-8", "surrogateescape"))
            for i in sampled(count):
                digest.update(pictures.read(i))
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: of a frame in a damaged zip
        raise UserError(f"{source.path}: {getattr(error, 'strerror', error)}") from None
    return {"frames": len(kinds[0]), "sha256": digest.hexdigest()}


def is_same(source: Source, note: Note) -> bool:
    """Whether a video is the one of the note; a file of the same size and time is not read."""
    try:
        if is_file(source):
            status = os.stat(source.path)
            if status.st_size != note.get("bytes"):
                return False
            if status.st_mtime_ns == note.get("mtime_ns"):
                return True
        return take_note(source)["sha256"] == note.get("sha256")
    except (UserError, OSError):
        return not note  # it could not be read then either


def sampled(count: int) -> list[int]:
    """A few of the indices below `count`, with the first and the last."""
    return sorted({k * (count - 1) // (SAMPLED - 1) for k in range(SAMPLED)})


def is_file(source: Source) -> bool:
    return not source.is_flow and is_video_file(source.path)


def take_notes(sources: Iterable[Source]) -> list[Note]:
    """Notes of many videos; an empty one where a video cannot be read."""

    def note_of(source: Source) -> Note:
        try:
            return take_note(source)
        except UserError:
            return {}

    with ThreadPool(NUM_THREADS) as pool:
        return pool.map(note_of, sources, chunksize=8)


def are_same(noted: Iterable[tuple[Source, Note]]) -> list[bool]:
    """`is_same` of many videos."""
    with ThreadPool(NUM_THREADS) as pool:
        return pool.starmap(is_same, noted, chunksize=8)


def read_notes(path: Path) -> dict[str, Note]:
    """The last note of each name in a file of them; none where there is no such file."""
    notes: dict[str, Note] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return notes
    for line in text.splitlines():
        try:
            name, note = json.loads(line)
            notes[str(name)] = dict(note)
        except (ValueError, TypeError, RecursionError):
            continue  # a stop in the middle of it: before what it is the note of was there
    return notes


def rate_noted(frames: str, num_frames: int) -> float | None:
    """Frames a second of a folder of frames, as extract_frames.py noted it in a folder above.

    None if it did not, or if there are others in their place, which are not as many.
    """
    folder = Path(os.path.abspath(frames))
    for above in folder.parents:
        notes = above / EXTRACTED
        if notes.is_file():
            name = str(folder.relative_to(above))
            note = notes_at(notes, notes.stat().st_mtime_ns).get(name, {})
            fps = note.get("fps")
            known = note.get("num_frames") == num_frames and isinstance(fps, float)
            return fps if known and 0 < fps < math.inf else None
    return None


@functools.lru_cache(maxsize=8)
def notes_at(path: Path, mtime_ns: int) -> dict[str, Note]:
    """`read_notes` of a file of that time, once for all videos; none where it cannot be read."""
    try:
        return read_notes(path)
    except OSError:  # who needs the rates says that they are not known
        return {}


def add_note(path: Path, name: str, note: Note) -> None:
    """Adds a note to a file of them, in one write: processes may do so at the same time."""
    with open(path, "a", encoding="utf-8") as file:
        # a new line first: what was there may end in the middle of one
        file.write("\n" + json.dumps([name, note]))
