"""Frames of a video file by their number: the k-th that is decoded, in the order of presentation.

Those are the frames that extract_frames.py writes without --fps, in the same order.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from config import UserError

CUT_OFF = Fraction(95, 100)  # of the duration in the header; a shorter file is not complete


def open_video(path: str | os.PathLike) -> av.container.InputContainer:
    """Opens a video; FFmpeg takes a mere a:b.mp4 for a URL, so by its whole path."""
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise ValueError("the file is empty")
    return av.open(os.path.abspath(path), metadata_errors="ignore")


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The video of a file, to be decoded by one thread: parallel are the processes."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise ValueError("no video stream")
    stream.codec_context.thread_count = 1
    return stream


def timed_frames(container: av.container.InputContainer) -> Iterator[tuple]:
    """Pairs of a time in seconds and the frame decoded there; at last (end of the video, None).

    Raises:
        ValueError: there is no video stream, or the file is cut off; av.FFmpegError: as it says.
    """
    stream = video_stream(container)
    period, base = 1 / (stream.average_rate or Fraction(25)), stream.time_base or Fraction(1)
    is_avi = container.format.name == "avi"  # stores the order of frames only: pts is a guess
    end = Fraction(0)
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise ValueError("the file is damaged or cut off")
        for frame in packet.decode():
            stamp = frame.dts if is_avi else frame.pts
            time = end if stamp is None else stamp * base
            end = time + ((frame.duration or 0) * base or period)
            yield time, frame
    # Matroska files just end where they are cut off; other formats have a corrupt packet there
    if "matroska" in container.format.name and end < CUT_OFF * claimed_end(stream):
        raise ValueError("the file is cut off")
    yield end, None


def claimed_end(stream: av.VideoStream) -> Fraction:
    """End of the video in seconds by the header of a Matroska file; 0 where it does not say."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    hours, minutes, seconds = map(Fraction, match.groups() if match else (0, 0, 0))
    return (hours * 60 + minutes) * 60 + seconds


def reason(error: Exception) -> str:
    """Why a video cannot be used, in words."""
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def one_sentence(path: str) -> Iterator[None]:
    """Whatever is wrong with the video at `path` becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be decoded: {reason(error)}") from None


def count_frames(path: str) -> int:
    """How many frames are decoded, whatever the header claims."""
    with one_sentence(path), open_video(path) as container:
        num_frames = sum(1 for _ in timed_frames(container)) - 1
        if not num_frames:
            raise ValueError("no frames")
        return num_frames


def frame_rate(path: str) -> float | None:
    """Frames a second, on average where they vary; None where the file does not say."""
    with one_sentence(path), open_video(path) as container:
        stream = video_stream(container)
        rate = stream.average_rate or stream.guessed_rate
        return float(rate) if rate else None


class Stamps(NamedTuple):
    """Times of a video without decoding it, in the time base of its stream."""

    shown: np.ndarray  # of each frame in the order of presentation; empty: not usable
    keys: np.ndarray  # of the frames where decoding can start
    num_packets: int  # at least the number of frames


def read_stamps(path: str) -> Stamps:
    """The times of a video; those of the last thousand videos are remembered."""
    status = os.stat(path)
    return _read_stamps(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _read_stamps(path: str, size: int, mtime_ns: int) -> Stamps:
    shown, keys, num_packets = [], [], 0
    with open_video(path) as container:
        for packet in container.demux(video_stream(container)):
            if packet.is_corrupt:
                raise ValueError("the file is damaged or cut off")
            if not packet.size:
                continue
            num_packets += 1
            if not packet.is_discard:  # by an edit list, which leaves it out
                shown.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        is_avi = container.format.name == "avi"  # stores the order of frames only: pts is a guess
    if is_avi or None in shown or None in keys or len(set(shown)) < len(shown):
        return Stamps(np.empty(0), np.empty(0), num_packets)
    return Stamps(np.sort(shown), np.sort(keys), num_packets)


def decoded_frames(
    path: str, wanted: list[int], num_frames: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of frames with their pictures, upright, uint8 (H, W, 3), contiguous.

    Decodes from the key frame before where the times of the frames tell them apart, else from the
    start.

    Args:
        path: of the video.
        wanted: 0-based numbers of frames, sorted, each once.
        num_frames: what the list says.

    Raises:
        UserError: the video cannot be decoded, or has fewer frames.
    """
    with one_sentence(path):
        stamps, missing = read_stamps(path), set(wanted)
        # with another number of frames, a time does not tell which of those of the list it is
        if len(stamps.shown) == num_frames:
            for index, picture in seek_frames(path, stamps, wanted):
                missing.discard(index)
                yield index, picture
        if missing:
            # so many cannot be in it: counts them
            last = num_frames - 1 if num_frames > stamps.num_packets else wanted[-1]
            # all of them anew: a file that misleads once may have done so before
            yield from first_frames(path, set(wanted), last, num_frames)


def seek_frames(path: str, stamps: Stamps, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The frames `wanted`, by number; some lack where seeking does not lead to them.

    Frames between the same two key frames are decoded in one go.
    """
    key_of = np.searchsorted(stamps.keys, stamps.shown[wanted], side="right") - 1
    if key_of[0] < 0:  # shown before any key frame
        return
    with open_video(path) as container:
        stream = video_stream(container)
        to_picture = Converter(stream)
        for key, group in groupby(zip(key_of.tolist(), wanted, strict=True), lambda pair: pair[0]):
            numbers = {int(stamps.shown[index]): index for _, index in group}
            for frame in frames_from(container, stream, int(stamps.keys[key]), max(numbers)):
                if frame.pts in numbers and not frame.is_corrupt:
                    yield numbers[frame.pts], to_picture(frame)


def frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, key: int, last: int
) -> Iterator[av.VideoFrame]:
    """Frames from the key frame shown at `key` to the one shown at `last`, as they are decoded."""
    container.seek(key, stream=stream)
    started = False
    for packet in container.demux(stream):
        started = started or packet.pts == key  # a seek may stop before it
        for frame in packet.decode() if started else ():
            yield frame
            if frame.pts is not None and frame.pts >= last:
                return


def first_frames(
    path: str, wanted: set[int], last: int, num_frames: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The frames `wanted`, by number, decoding all from the start to the `last`."""
    with open_video(path) as container:
        to_picture = Converter(video_stream(container))
        for count, (_, frame) in enumerate(timed_frames(container)):
            if frame is None:
                raise UserError(
                    f"{path}: the list says {num_frames} frames, the video has {count}; "
                    "write the list again with pt_dataset/make_json.py"
                )
            if count in wanted:
                yield count, to_picture(frame)
            if count == last:
                return


class Converter:
    """Frames to upright RGB pictures of one size: that which the first frame of the file has."""

    def __init__(self, stream: av.VideoStream):
        self.size, self.scaler = (stream.width, stream.height), VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        rgb = {"format": "rgb24", "interpolation": "BICUBIC", "threads": 1}
        pixels = self.scaler.reformat(frame, *self.size, **rgb).to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
