"""What the commands that convert videos have in common: which they find, and what they report."""

import os
import shlex
import sys
from pathlib import Path

from config import UserError, plural
from pt_dataset.listing.find_videos import PACKED
from pt_dataset.listing.folders import (
    LONGEST_NAME,
    Writer,
    fill_folders,
    result_folders,
    walk,
    without_suffix,
)
from pt_dataset.sources import VIDEO_NAME


def require_pyav(*encoders: str) -> None:
    """Refuses to begin where PyAV is missing, or one of these encoders of FFmpeg."""
    try:
        import av  # here, since --help need not wait for FFmpeg
    except ImportError:
        raise UserError("PyAV reads and writes videos, and is missing; pip install av") from None
    for name in encoders:
        if name not in av.codecs_available:
            raise UserError(f"the FFmpeg of this PyAV has no {name}; pip's has it: pip install av")


def convert_videos(
    write: Writer,
    settings: dict,
    *,
    src: Path,
    dst: Path,
    tool: str,
    what: str,
    done: str,
    workers: int,
    suffix: str = "",
) -> int:
    """Converts all videos below `src` that are not finished, reports, returns the exit status.

    Args:
        write, settings, dst, tool, what: see `fill_folders`.
        done: what then has happened to a video.
        suffix: of the file that a video becomes; without one, it becomes a folder.
    """
    src, dst = src.absolute(), dst.absolute()  # FFmpeg takes a mere a:b.mp4 for a URL
    if not src.is_dir():
        packed = PACKED.fullmatch(src.name) or src.suffix.lower() == ".zip"
        why = "unpack it first" if packed else "SRC has the videos in it, or a folder a class"
        raise UserError(f"{src} is no folder; {why}")
    if os.path.realpath(src) == os.path.realpath(dst):
        raise UserError(f"{dst} is SRC itself; name another folder for the {what}")
    broken: list[str] = []
    files = [folder / name for folder, names in walk(src, dst, broken) for name in names]
    videos = sorted(path.relative_to(src) for path in files if VIDEO_NAME.fullmatch(path.name))
    num_others = len(files) - len(videos)
    if not videos:
        raise UserError(f"{src} has no videos in it ({plural(num_others, 'other file')})")
    results = result_files(videos, suffix, broken) if suffix else result_folders(videos)
    filled = fill_folders(
        write, results, settings, src=src, dst=dst, tool=tool, what=what, workers=workers
    )
    broken += filled.broken
    for why in broken:
        print(f"broken: {why}", file=sys.stderr)
    for why in filled.damaged:
        print(f"damaged: {why}; the files of these frames are empty", file=sys.stderr)
    damaged = f", {len(filled.damaged)} of them damaged" if filled.damaged else ""
    print(
        f"{plural(filled.num_done, 'video')} {done} ({plural(filled.total, 'frame')})"
        f"{filled.again_in_words()}{damaged}, {filled.num_before} finished before, "
        f"{len(broken)} broken, {plural(num_others, 'other file')} ignored"
    )
    if filled.num_before + filled.num_done:
        print(f"next: python pt_dataset/make_json.py folder NAME {shlex.quote(str(dst))}")
    return 1 if broken or filled.damaged else 0


def result_files(videos: list[Path], suffix: str, problems: list[str]) -> dict[Path, Path]:
    """The relative file for what is made of each video, which lists name as they name the video.

    `problems` gets a sentence for each that cannot have one.
    """
    files = {}
    for video, name in without_suffix(videos, set()).items():
        files[video] = name.with_name(name.name + suffix)
        if len(os.fsencode(files[video].name)) > LONGEST_NAME:
            problems.append(f"{video}: too long a name for {files.pop(video).name}; rename it")
    return files
