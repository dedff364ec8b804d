"""Encode videos anew for training: small files that decode about as fast as JPEG frames.

    python pt_dataset/shrink_videos.py SRC DST [--short-side 256]

SRC/<class>/clip.avi becomes DST/<class>/clip.mp4, at whatever depth; of two videos that differ in
their suffix alone the first by name becomes `clip.mp4`, the other one, such as clip.mov,
`clip.mov.mp4`. Frame k of the one is frame k of the other, at the same time, upright; there is no
sound. A file appears when it is complete; the same command goes on after a stop, and does again
what was made of another video. A video with damaged frames is left out.
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
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from config import Parser, UserError
from pt_dataset.listing.convert import convert_videos, require_pyav
from pt_dataset.listing.folders import Written
from pt_dataset.listing.pool import exit_status

if TYPE_CHECKING:
    import av

# A clip starts anywhere, and is decoded from the key frame before it on. B frames are smaller, and
# slower to decode. benchmarks/README.md has what other settings cost.
X264 = {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "g": "16", "bf": "0"}
FINEST = 10_000  # units of time a second, at least: what is rounded to them is 0.05 ms off
LEFT_OUT = "get it again, or copy it to DST and train with --on-bad-frame nearest"


def scaled_frames(video: Path, short_side: int) -> Iterator["av.VideoFrame"]:
    """All frames, scaled and upright, each with its time, counted from the first one on.

    Raises:
        UserError: the video cannot be decoded, or one of its frames is bad.
    """
    import av  # here, since --help need not wait for FFmpeg

    from pt_dataset.formats.planes import scaled_size, upright_planes
    from pt_dataset.formats.video_file import one_sentence, open_video, timed_frames, video_stream

    size, scaler = None, av.video.reformatter.VideoReformatter()
    first, last = None, -1
    with one_sentence(video), open_video(video) as container:
        units = (video_stream(container).time_base or Fraction(1)).denominator
        units *= math.ceil(FINEST / units)
        for count, ((time, frame), (until, _)) in enumerate(pairwise(timed_frames(container)), 1):
            if not isinstance(frame, av.VideoFrame):
                raise UserError(f"{video}: frame {count} is bad: {frame}; {LEFT_OUT}")
            # two, since four pixels share a color
            size = size or scaled_size(frame.width, frame.height, short_side, multiple=2)
            y, u, v = upright_planes(frame, size, scaler, "yuv420p", "MPEG")
            stacked = np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(-1, y.shape[1])
            new = av.VideoFrame.from_ndarray(stacked, "yuv420p")
            new.color_primaries, new.color_trc = frame.color_primaries, frame.color_trc
            first = time if first is None else first
            start, end = (round((t - first) * units) for t in (time, until))
            last = max(start, last + 1)  # no two at the same time
            new.pts, new.duration, new.time_base = last, max(end - last, 1), Fraction(1, units)
            yield new


def write_shrunk(video: Path, path: Path, settings: dict) -> Written:
    """Encodes `video` anew as `path`; returns how many frames.

    Raises:
        UserError: see `scaled_frames`, or frames of its size cannot be encoded.
    """
    import av
    from av.codec.context import Flags
    from av.video.reformatter import ColorRange, Colorspace

    count = 0
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options=X264)  # frames have their times
        context = stream.codec_context
        context.thread_count = 1  # parallel are the processes
        context.flags |= Flags.frame_duration  # of the last one, too
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
        for count, frame in enumerate(scaled_frames(video, settings["short_side"]), 1):
            if count == 1:
                context.width, context.height = frame.width, frame.height
                context.pix_fmt = frame.format.name
                # pyrefly: ignore[bad-assignment]  # it has one
                context.time_base = frame.time_base
                context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
            try:
                packets = stream.encode(frame)
            except av.FFmpegError:
                raise UserError(f"{video}: H.264 has no {frame.width}x{frame.height}") from None
            container.mux(packets)
        container.mux(stream.encode(None))
    with open(path, "r+b") as file:
        os.fsync(file.fileno())  # as it is not done again once it has its name
    return Written(count)


def shrink_videos(*, src: Path, dst: Path, short_side: int, workers: int) -> int:
    """Encodes all videos that are not finished and returns the exit status."""
    require_pyav("libx264")
    return convert_videos(
        write_shrunk,
        {"short_side": short_side},
        src=src,
        dst=dst,
        tool="shrink_videos",
        what="videos",
        done="shrunk",
        workers=workers,
        suffix=".mp4",
    )


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Encode videos anew for training.", allow_abbrev=False)
    add = parser.add_argument
    add("src", metavar="SRC", type=Path, help="folder with a folder of videos a class, or flat")
    add("dst", metavar="DST", type=Path, help="gets a file for each video")
    side_help = "frames are scaled, up or down, to exactly this short side; 0: never (default: 256)"
    add("--short-side", type=int, default=256, metavar="PIXELS", help=side_help)
    cpus = os.cpu_count()
    add("--workers", type=int, default=cpus, metavar="N", help="processes (default: one a CPU)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    parser = build_parser()
    opts = parser.parse_args(argv)
    if opts.short_side < 0 or opts.short_side % 2 or opts.workers < 1:
        parser.error("--short-side must be even, 0 or more, --workers 1 or more")
    return exit_status(shrink_videos, opts.dst, **vars(opts))


if __name__ == "__main__":
    sys.exit(main())
