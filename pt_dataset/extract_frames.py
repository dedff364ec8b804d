"""Decode videos into folders of JPEG frames, which training reads faster than the videos.

    python pt_dataset/extract_frames.py SRC DST [--short-side 256] [--fps F] [--quality 90]

SRC/<class>/clip.avi becomes DST/<class>/clip/image_00001.jpg and so on, at whatever depth. Of two
videos that differ in their suffix alone the first by name gets the folder `clip`, the other one
`clip.mp4`. A folder appears when its video is complete; the same command goes on after a stop, and
does again what was made of another video.
The file of a frame that is damaged in the video is empty.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg

from config import Parser
from pt_dataset.formats.measure import Measured
from pt_dataset.listing.convert import convert_videos, require_pyav
from pt_dataset.listing.folders import Written
from pt_dataset.listing.pool import exit_status

if TYPE_CHECKING:
    import av

ROUNDING = Fraction(1, 1000)  # s; Matroska rounds times to it, no frame may miss its tick by that


def at_rate(frames: Iterator[tuple], fps: Fraction | None) -> Iterator[tuple[Any, int]]:
    """What is on screen and how often to write it: once, or at all ticks k / fps while it is."""
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


def encode_jpeg(
    frame: "av.VideoFrame",
    size: tuple[int, int],
    quality: int,
    scaler: Any,
) -> bytes:
    """The JPEG of a frame, scaled by `scaler` to `size` (width, height) and then turned upright."""
    from pt_dataset.formats.planes import upright_planes

    # the very planes that a JPEG stores, without RGB in between: twice as fast
    planes = upright_planes(frame, size, scaler, "yuvj420p", "JPEG")
    height, width = planes[0].shape
    # of an odd size the encoder reads one row and column more than there are, whatever lies there
    padded = np.pad(planes[0], ((0, height % 2), (0, width % 2)), "edge")
    # pyrefly: ignore[bad-argument-count]  # its stub lacks the quality
    return simplejpeg.encode_jpeg_yuv_planes(padded[:height, :width], *planes[1:], quality)


def encoded_frames(
    video: Path, settings: dict, times: list[float]
) -> Iterator[tuple[bytes, str, int]]:
    """The JPEG of each frame, or b"" and why it is bad, and how often to write it.

    Args:
        times: gets the seconds at which each frame of the video is shown, and its end.

    Raises:
        UserError: the video cannot be decoded.
    """
    import av  # here, since --help need not wait for FFmpeg

    from pt_dataset.formats.planes import scaled_size
    from pt_dataset.formats.video_file import one_sentence, open_video, timed_frames

    fps = settings["fps"] and Fraction(settings["fps"])
    size, scaler = None, av.video.reformatter.VideoReformatter()
    with one_sentence(video), open_video(video) as container:

        def noted() -> Iterator[tuple]:
            for time, frame in timed_frames(container):
                times.append(float(time))
                yield time, frame

        for frame, count in at_rate(noted(), fps):
            if isinstance(frame, str):
                yield b"", frame, count
                continue
            size = size or scaled_size(frame.width, frame.height, settings["short_side"])
            yield encode_jpeg(frame, size, settings["quality"], scaler), "", count


def write_frames(video: Path, folder: Path, settings: dict) -> Written:
    """Decodes `video` into `folder`; the rate of frames is known where they are evenly spaced.

    Of a bad frame there is an empty file, which training meets as it would meet the frame of the
    video. UserError: the video cannot be decoded.
    """
    from pt_dataset.formats.video_file import even_rate

    folder.mkdir(exist_ok=True)
    num_frames, bad, times = 0, {}, []
    for data, why, count in encoded_frames(video, settings, times):
        for _ in range(count):
            if why:
                bad[num_frames] = why
            num_frames += 1
            (folder / f"image_{num_frames:05d}.jpg").write_bytes(data)
    damage = Measured(num_frames, bad=bad).damage()
    fps = float(Fraction(settings["fps"])) if settings["fps"] else even_rate(video, times)
    return Written(num_frames, damage and f"{video}: {damage}", fps)


def extract_videos(
    *, src: Path, dst: Path, short_side: int, fps: Fraction | None, quality: int, workers: int
) -> int:
    """Extracts all videos that are not finished and returns the exit status."""
    require_pyav()
    return convert_videos(
        write_frames,
        {"short_side": short_side, "fps": fps and str(fps), "quality": quality},
        src=src,
        dst=dst,
        tool="extract_frames",
        what="frames",
        done="extracted",
        workers=workers,
    )


def rate(text: str) -> Fraction:
    """Frames a second as typed: 25, 12.5 or 30000/1001."""
    numerator, _, denominator = text.partition("/")
    above, below = Fraction(numerator), Fraction(denominator or 1)
    if above <= 0 or below <= 0:
        raise ValueError(f"{text} is not positive")
    return above / below


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Decode videos into folders of JPEG frames.", allow_abbrev=False)
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
    return parser


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    parser = build_parser()
    opts = parser.parse_args(argv)
    if opts.short_side < 0 or not 1 <= opts.quality <= 100 or opts.workers < 1:
        parser.error("--short-side must be 0 or more, --quality 1 to 100, --workers 1 or more")
    return exit_status(extract_videos, opts.dst, **vars(opts))


if __name__ == "__main__":
    sys.exit(main())
