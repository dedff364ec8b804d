"""Decode videos into folders of JPEG frames, which training reads faster than the videos.

    python pt_dataset/extract_frames.py SRC DST [--short-side 256] [--fps F] [--quality 90]

SRC/<class>/clip.avi becomes DST/<class>/clip/image_00001.jpg and so on, at whatever depth. Of two
videos that differ in their suffix alone the first by name gets the folder `clip`, the other one
`clip.mp4`. A folder appears when its video is complete; the same command goes on after a stop.
"""

import argparse
import json
import math
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter
from tqdm import tqdm

from config import UserError
from pt_dataset.datalist import write_atomic
from pt_dataset.sources import VIDEO_NAME
from pt_dataset.video_file import open_video, reason, timed_frames

ROUNDING = Fraction(1, 1000)  # s; Matroska rounds times to it, no frame may miss its tick by that
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
GOES_ON = "what is finished stays, and the same command goes on from there"


def find_videos(src: Path, dst: Path) -> tuple[list[Path], int]:
    """Videos below `src` but not in `dst`, relative and sorted, and the number of other files."""
    videos, num_others = [], 0
    seen = {os.path.realpath(dst)}  # a link to a folder above itself would never end

    def fail(error: OSError):
        raise error

    for folder, folders, names in os.walk(src, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if real not in seen and name[0] != ".")
        for name in names if real not in seen else ():
            if VIDEO_NAME.fullmatch(name):
                videos.append(Path(folder, name).relative_to(src))
            else:
                num_others += 1
        seen.add(real)
    return sorted(videos), num_others


def frame_folders(videos: list[Path]) -> dict[Path, Path]:
    """The relative folder for the frames of each video: its path without the suffix.

    The suffix stays where that folder is another video's already, or has videos in it.
    """
    taken = {parent for video in videos for parent in video.parents}
    folders = {}
    for video in videos:
        folders[video] = video if video.with_suffix("") in taken else video.with_suffix("")
        taken.add(folders[video])
    return folders


def at_rate(frames: Iterator[tuple], fps: Fraction | None) -> Iterator[tuple[av.VideoFrame, int]]:
    """Frames and how often to write each: once, or at all ticks k / fps while it is on screen."""
    num_ticks, first, held = 0, None, None
    for time, frame in frames:
        if held is None:
            first = time
        else:
            # ticks before this frame; the first tick always has one, however short the video is
            due = max(math.ceil((time - first - ROUNDING) * fps), 1) if fps else num_ticks + 1
            if due > num_ticks:
                yield held, due - num_ticks
                num_ticks = due
        held = frame


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with that short side; 0 keeps both."""
    scale = Fraction(short_side or min(width, height), min(width, height))
    return round(width * scale), round(height * scale)


def encode(frame: av.VideoFrame, size: tuple[int, int], quality: int, scaler: VideoReformatter):
    """The JPEG bytes of a frame, scaled to `size` (width, height) and then turned upright."""
    # to the very planes that a JPEG stores, without RGB in between: twice as fast
    jpeg_planes = {"format": "yuvj420p", "dst_colorspace": "ITU601", "dst_color_range": "JPEG"}
    scaled = scaler.reformat(frame, *size, **jpeg_planes, interpolation="BICUBIC", threads=1)
    planes = []
    for plane in scaled.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        upright = np.rot90(rows[:, : plane.width], round(frame.rotation / 90))
        planes.append(np.ascontiguousarray(upright))
    height, width = planes[0].shape
    # of an odd size the encoder reads one row and column more than there are, whatever lies there
    padded = np.pad(planes[0], ((0, height % 2), (0, width % 2)), "edge")
    return simplejpeg.encode_jpeg_yuv_planes(padded[:height, :width], *planes[1:], quality)


def write_frames(video: Path, folder: Path, settings: dict) -> int:
    """Decodes `video` into `folder` and returns the number of frames.

    Raises:
        ValueError: the video is broken, with the reason.
        OSError: a frame cannot be written.
    """
    fps = settings["fps"] and Fraction(settings["fps"])
    num_frames, size, scaler = 0, None, VideoReformatter()
    try:
        with open_video(video) as container:
            for frame, count in at_rate(timed_frames(container), fps):
                size = size or scaled_size(frame.width, frame.height, settings["short_side"])
                data = encode(frame, size, settings["quality"], scaler)
                for _ in range(count):
                    num_frames += 1
                    (folder / f"image_{num_frames:05d}.jpg").write_bytes(data)
    except (av.FFmpegError, ValueError) as error:
        after = f" (after {num_frames} frames)" if num_frames else ""
        raise ValueError(reason(error) + after) from None
    if num_frames == 0:
        raise ValueError("no frames")
    return num_frames


def extract(src: Path, dst: Path, settings: dict, video: Path, folder: Path) -> tuple:
    """A job of the pool; returns the video, its number of frames, and why it is broken or ""."""
    folder = dst / folder
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir(parents=True)
    try:
        num_frames = write_frames(src / video, unfinished, settings)
    except ValueError as error:
        shutil.rmtree(unfinished)
        return video, 0, str(error)
    unfinished.rename(folder)
    return video, num_frames, ""


def start_worker() -> None:
    """Ties the life of a worker to the process that started it, even where that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all, the parent answers

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_jobs(job, todo: list[tuple], workers: int) -> Iterator[tuple]:
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


def check_settings(dst: Path, settings: dict, has_frames: bool) -> None:
    """Notes the settings in `dst`, or refuses where frames were made with others."""
    path = dst / "extract_frames.json"
    try:
        earlier = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if has_frames:
            raise UserError(f"{dst} has frames of another origin; name a new folder") from None
        write_atomic(path, json.dumps(settings) + "\n")
        return
    if earlier != json.dumps(settings):
        raise UserError(f"{dst} has frames made with {earlier}; use these, or name a new folder")


def remove_unfinished(parents: set[Path]) -> None:
    """Removes what an earlier run, or this one, left in the middle of a video."""
    for parent in parents:
        for unfinished in parent.glob(".*.partial"):
            shutil.rmtree(unfinished)


def run(
    *, src: Path, dst: Path, short_side: int, fps: Fraction | None, quality: int, workers: int
) -> int:
    """Extracts all videos that are not finished and returns the exit status."""
    src, dst = src.absolute(), dst.absolute()  # FFmpeg takes a mere a:b.mp4 for a URL
    if not src.is_dir():
        raise UserError(f"{src} is no folder; SRC has the videos in it, or a folder a class")
    if os.path.realpath(src) == os.path.realpath(dst):
        raise UserError(f"{dst} is SRC itself; name another folder for the frames")
    videos, num_others = find_videos(src, dst)
    if not videos:
        raise UserError(f"{src} has no videos in it ({num_others} other files)")
    folders = frame_folders(videos)
    todo = [(video, folder) for video, folder in folders.items() if not (dst / folder).is_dir()]
    num_before = len(videos) - len(todo)
    settings = {"short_side": short_side, "fps": fps and str(fps), "quality": quality}
    check_settings(dst, settings, num_before > 0)

    parents = {(dst / folder).parent for folder in folders.values()}
    remove_unfinished(parents)
    results = run_jobs(partial(extract, src, dst, settings), todo, workers)
    num_frames, broken = 0, []
    try:
        for video, count, reason in tqdm(
            results, "extracting", len(todo), unit="video", disable=not todo
        ):
            num_frames += count
            if reason:
                broken.append((video, reason))
    finally:
        results.close()
        remove_unfinished(parents)

    for video, reason in sorted(broken):
        print(f"broken: {src / video}: {reason}", file=sys.stderr)
    num_done = len(todo) - len(broken)
    print(
        f"{num_done} videos extracted ({num_frames} frames), {num_before} finished before, "
        f"{len(broken)} broken, {num_others} other files ignored"
    )
    if num_before + num_done:
        print(f"next: python pt_dataset/make_json.py folder NAME {shlex.quote(str(dst))}")
    return 1 if broken else 0


def rate(text: str) -> Fraction:
    """Frames a second as typed: 25, 12.5 or 30000/1001."""
    numerator, _, denominator = text.partition("/")
    above, below = Fraction(numerator), Fraction(denominator or 1)
    if above <= 0 or below <= 0:
        raise ValueError(f"{text} is not positive")
    return above / below


def parse_opts(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description="Decode videos into folders of JPEG frames.", allow_abbrev=False
    )
    add = parser.add_argument
    add("src", metavar="SRC", type=Path, help="folder with a folder of videos a class, or flat")
    add("dst", metavar="DST", type=Path, help="gets a folder of frames for each video")
    side_help = "frames are scaled, up or down, to exactly this short side; 0: never (default: 256)"
    add("--short-side", type=int, default=256, metavar="PIXELS", help=side_help)
    fps_help = "write the frame on screen at each tick k/F (default: every decoded frame once)"
    add("--fps", type=rate, metavar="F", help=fps_help)
    add("--quality", type=int, default=90, metavar="Q", help="of the JPEGs, 1-100 (default: 90)")
    cpus = os.cpu_count()
    add("--workers", type=int, default=cpus, metavar="N", help="processes (default: one a CPU)")
    opts = parser.parse_args(argv)
    if opts.short_side < 0 or not 1 <= opts.quality <= 100 or opts.workers < 1:
        parser.error("--short-side must be 0 or more, --quality 1 to 100, --workers 1 or more")
    return opts


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    opts = parse_opts(argv)
    try:
        return run(**vars(opts))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # the disk is full, or not ours to write to
        print(f"error: {error.filename or opts.dst}: {error.strerror}; {GOES_ON}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"stopped; {GOES_ON}", file=sys.stderr)
        return INTERRUPTED
    return 1


if __name__ == "__main__":
    sys.exit(main())
