"""Compute the optical flow of videos, which the flow streams of TSN and I3D are trained on.

    python pt_dataset/extract_flow.py SRC DST [--bound 20] [--quality 90]

The frames of SRC/<class>/clip become DST/<class>/clip/flow_x_00001.jpg and flow_y_00001.jpg and so
on: the movement right and down from the first frame to the second, one field fewer than frames.
SRC has folders of frames, as extract_frames.py writes them, or video files, or is a zip of such
folders. A folder appears when its video is complete; the same command goes on after a stop,
and does again what was made of another video.

The flow is DIS's (Kroeger et al., 2016), which a CPU computes a hundred times a second. Public
weights were trained on TV-L1: the two are alike, not the same. Flow is in pixels of the frames as
they are, so their size matters; that of extract_frames.py is what TSN and I3D used.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import os
import shlex

import numpy as np
import simplejpeg

from config import Parser, UserError, plural
from pt_dataset.formats.frame_names import FRAME_NAME, by_kind
from pt_dataset.formats.measure import count_frames
from pt_dataset.formats.zip_frames import zip_videos
from pt_dataset.listing.folders import Written, fill_folders, result_folders, walk
from pt_dataset.listing.pool import exit_status
from pt_dataset.sources import VIDEO_NAME, read_frames

# a JPEG of any quality keeps it, TSN subtracts it, and the usual tools for TV-L1 write it
NO_MOTION = 128
CHUNK = 16  # fields; more would only need more memory


def inputs_below(src: Path, dst: Path, problems: list[str]) -> tuple[list[Path], list[Path], int]:
    """Video files and folders of frames below `src`, relative, and the number of other files.

    `problems` gets a sentence for each folder that cannot be read.
    """
    if src.is_file():
        return [], sorted(map(Path, zip_videos(src))), 0
    videos, frame_folders, num_others = [], [], 0
    for folder, names in walk(src, dst, problems):
        found = [name for name in names if VIDEO_NAME.fullmatch(name)]
        # not flow that is there already
        frames = [name for name in by_kind(names)[""] if FRAME_NAME.fullmatch(name)]
        videos += [(folder / name).relative_to(src) for name in found]
        frame_folders += [folder.relative_to(src)] if frames else []
        num_others += len(names) - len(found) - len(frames)
    return sorted(videos), sorted(frame_folders), num_others


def to_pixels(flow: np.ndarray, bound: float) -> np.ndarray:
    """Flow in pixels a frame -> uint8: -bound is 0, no motion is 128, +bound is 255.

    A level is bound / 127.5 pixels, as in the flow that TSN and I3D were trained on. No motion lies
    in the middle of its level, so that the noise of a still background does not make it flicker.
    """
    return np.clip(np.rint(NO_MOTION + flow * (127.5 / bound)), 0, 255).astype(np.uint8)


def flow_fields(frames: np.ndarray) -> list[np.ndarray]:
    """Flow from each of `frames`, uint8 (T, H, W, 3), to the next: T - 1 times (H, W, 2) pixels."""
    import cv2  # here and below, since --help need not wait for it

    # pyrefly: ignore[missing-attribute]  # its stub lacks it
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return [dis.calc(before, after, None) for before, after in zip(gray, gray[1:], strict=False)]


def write_flow(video: Path, folder: Path, settings: dict) -> Written:
    """Writes the flow of `video` into `folder`; returns how many fields. ValueError: why none."""
    import cv2

    cv2.setNumThreads(1)  # the pool keeps the other cores busy
    folder.mkdir(exist_ok=True)
    num_frames = count_frames(str(video))
    if num_frames < 2:
        raise ValueError(f"{video}: a single frame, so there is no flow")
    for start in range(0, num_frames - 1, CHUNK):
        # a chunk ends with the first frame of the next
        indices = list(range(start, min(start + CHUNK + 1, num_frames)))
        frames = read_frames(str(video), indices, num_frames)
        if max(frames.shape[1:3]) < 12:
            raise ValueError(f"{video}: frames of under 12 pixels are too small for DIS")
        fields = flow_fields(frames)
        for number, field in enumerate(fields, start + 1):
            pixels = to_pixels(field, settings["bound"])
            for i, axis in enumerate("xy"):
                picture = np.ascontiguousarray(pixels[..., i : i + 1])
                data = simplejpeg.encode_jpeg(picture, settings["quality"], "GRAY", "GRAY")
                (folder / f"flow_{axis}_{number:05d}.jpg").write_bytes(data)
    return Written(num_frames - 1)


def compute_flows(*, src: Path, dst: Path, bound: float, quality: int, workers: int) -> int:
    """Computes the flow of all videos that have none yet and returns the exit status."""
    src, dst = src.absolute(), dst.absolute()
    if not src.is_dir() and not (src.is_file() and src.suffix.lower() == ".zip"):
        raise UserError(f"{src} is no folder or zip; SRC has a folder of frames for each video")
    if os.path.realpath(src) == os.path.realpath(dst):
        raise UserError(f"{dst} is SRC itself; name another folder for the flow")
    unreadable: list[str] = []
    videos, frame_folders, num_others = inputs_below(src, dst, unreadable)
    if Path() in frame_folders:
        raise UserError(f"{src} has frames in it; name the folder that has the folders of frames")
    if not videos + frame_folders:
        raise UserError(f"{src} has no frames or videos in it ({plural(num_others, 'other file')})")
    filled = fill_folders(
        write_flow,
        result_folders(videos, frame_folders),
        {"bound": bound, "quality": quality},
        src=src,
        dst=dst,
        tool="extract_flow",
        what="flow",
        workers=workers,
    )
    broken = unreadable + filled.broken
    for why in broken:
        print(f"no flow: {why}", file=sys.stderr)
    print(
        f"flow of {plural(filled.num_done, 'video')} computed ({plural(filled.total, 'field')})"
        f"{filled.again_in_words()}, {filled.num_before} finished before, {len(broken)} without "
        f"flow, {plural(num_others, 'other file')} ignored"
    )
    if filled.num_before + filled.num_done:
        words = shlex.join(["folder", "NAME", str(src), "--flow", str(dst)])
        print(f"next: python pt_dataset/make_json.py {words}")
    return 1 if broken else 0


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Compute the optical flow of videos.", allow_abbrev=False)
    add = parser.add_argument
    add("src", metavar="SRC", type=Path, help="folders of frames or videos at any depth, or a zip")
    add("dst", metavar="DST", type=Path, help="gets a folder of flow for each video")
    bound_help = "flow is clipped to -B ... B pixels a frame, 0 ... 255 in the JPEGs (default: 20)"
    add("--bound", type=float, default=20.0, metavar="B", help=bound_help)
    add("--quality", type=int, default=90, metavar="Q", help="of the JPEGs, 1-100 (default: 90)")
    cpus = os.cpu_count()
    add("--workers", type=int, default=cpus, metavar="N", help="processes (default: one a CPU)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    parser = build_parser()
    opts = parser.parse_args(argv)
    if not 0 < opts.bound < float("inf") or not 1 <= opts.quality <= 100 or opts.workers < 1:
        parser.error("--bound must be above 0, --quality 1 to 100, --workers 1 or more")
    return exit_status(compute_flows, opts.dst, **vars(opts))


if __name__ == "__main__":
    sys.exit(main())
