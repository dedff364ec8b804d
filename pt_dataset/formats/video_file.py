"""Frames of a video file by their number: the k-th that is decoded, in the order of presentation.

Those are the frames that extract_frames.py writes without --fps, in the same order.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import dropwhile
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from config import UserError, open_regular, plural
from pt_dataset.formats.measure import Measured
from pt_dataset.sources import MEND, BadFrame

# metadata may be in any encoding; PyAV before 19 raises UnicodeDecodeError unless it is told so
_OLD = int(av.__version__.split(".")[0]) < 19
ANY_ENCODING: dict[str, Any] = {"metadata_errors": "ignore"} if _OLD else {}
CUT_OFF = Fraction(95, 100)  # of the duration in the header; a shorter file is not complete


def open_video(path: str | os.PathLike) -> av.container.InputContainer:
    """Opens a video; FFmpeg takes a mere a:b.mp4 for a URL, so by its whole path."""
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ValueError("the file is empty")
    return av.open(os.path.abspath(path), **ANY_ENCODING)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The video of a file, to be decoded by one thread: parallel are the processes."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
        raise ValueError("no video stream")
    if stream.codec_context is None:
        raise ValueError("FFmpeg has no decoder for its video stream")
    stream.codec_context.thread_count = 1
    return stream


def timed_frames(
    container: av.container.InputContainer,
) -> Iterator[tuple[Fraction, av.VideoFrame | str | None]]:
    """Pairs of a time in seconds and the frame shown from then on; at last (end, None).

    They are the frames that FFmpeg shows, damaged or not. In the place of a bad one is why it is:
    it is damaged, it builds on one that is, or the file is cut off after it.

    Raises:
        ValueError: there is no video stream, or no frame that is good; av.FFmpegError: as it says.
    """
    stream = video_stream(container)
    period, base = 1 / (stream.average_rate or Fraction(25)), stream.time_base or Fraction(1)
    is_avi = container.format.name == "avi"  # stores the order of frames only: pts is a guess
    time = end = shift = Fraction(0)
    num_good, why = 0, None
    for count, (frame, why) in enumerate(judged_frames(container, container.demux(stream))):
        stamp = frame.dts if is_avi else frame.pts
        start = end if stamp is None else stamp * base
        if shift and stamp is not None:
            start += shift
        if count and start < time:  # joined recordings, each counts from its own start
            shift, start = shift + end - start, end
        time, end = start, start + ((frame.duration or 0) * base or period)
        num_good += why is None
        yield time, why or frame
    if num_good == 0:
        raise ValueError(why or "no frames")
    yield end, None


def judged_frames(
    container: av.container.InputContainer, packets: Iterator[av.Packet]
) -> Iterator[tuple[av.VideoFrame, str | None]]:
    """Frames as they are shown, each with why it is bad, if it is; see `timed_frames`."""
    held: list = []  # a frame and the B frames shown after it, which build on the one after them
    for frame, damage in decoded(container, packets):
        if frame is None or frame.pict_type != PictureType.B:
            num_unhurt = 1 if frame else len(held) - 1  # at the end, the last one is hurt
            for i, (shown, why) in enumerate(held):
                yield shown, why or (damage if i >= num_unhurt else None)
            held = []
        held.append((frame, damage))


def decoded(
    container: av.container.InputContainer, packets: Iterator[av.Packet]
) -> Iterator[tuple[av.VideoFrame | None, str | None]]:
    """Frames, each with the damage since the last key frame, if any; at last None with that."""
    damage, is_cut, end, base = None, False, 0, None
    for packet in packets:
        if packet.size:
            is_cut, end = packet.is_corrupt, max(end, (packet.pts or 0) + (packet.duration or 0))
            base = base or packet.time_base
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            damage = reason(error)
            continue
        for frame in frames:
            if frame.key_frame:
                damage = None
            if frame.is_corrupt:
                damage = "the file is damaged here"
            yield frame, damage
    # Matroska files just end where they are cut off; other formats have a corrupt packet there
    if damage is None and (is_cut or is_cut_off(container, end * (base or 1))):
        damage = "the file is cut off here"
    yield None, damage


def is_cut_off(container: av.container.InputContainer, end: Fraction | int) -> bool:
    """Is this a Matroska file that has lost its end, by what its header says of the duration?"""
    stream = container.streams.best("video")
    duration = stream.metadata.get("DURATION", "") if stream else ""
    match = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", duration)
    hours, minutes, seconds = map(Fraction, match.groups() if match else (0, 0, 0))
    is_matroska = "matroska" in container.format.name
    return is_matroska and end < CUT_OFF * ((hours * 60 + minutes) * 60 + seconds)


def reason(error: Exception) -> str:
    """Why a video cannot be used, in words."""
    if isinstance(error, av.FFmpegError | OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def one_sentence(path: str | os.PathLike) -> Iterator[None]:
    """Whatever the video at `path` makes FFmpeg or PyAV raise becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # they raise all kinds on odd files
        raise UserError(f"{path} cannot be decoded: {reason(error)}") from error


def measure(path: str) -> Measured:
    """What decoding all frames of a video tells, whatever its header claims."""
    with one_sentence(path), open_video(path) as container:
        claimed, times, bad = claimed_rate(container), [], {}
        for index, (time, frame) in enumerate(timed_frames(container)):
            times.append(float(time))
            if isinstance(frame, str):
                bad[index] = frame
        return Measured(len(times) - 1, rate_of(np.array(times), claimed), bad)


def claimed_rate(container: av.container.InputContainer) -> Fraction | None:
    stream = video_stream(container)
    return stream.average_rate or stream.guessed_rate


def even_rate(path: str | os.PathLike, times: list[float]) -> float | None:
    """Frames a second of a video with these `times`, see rate_of; None where they are uneven."""
    with open_video(path) as container:
        claimed = claimed_rate(container)
    shown = np.array(times)
    fps = rate_of(shown, claimed)
    return fps if fps and are_even(shown, fps) else None


def rate_of(times: np.ndarray, claimed: Fraction | None) -> float | None:
    """Frames a second: those that a file claims where they are shown so, else by its duration.

    Args:
        times: seconds at which each frame is shown, and at last those of the end.
    """
    duration = times[-1] - times[0]
    if duration <= 0 or (claimed and are_even(times, float(claimed))):
        return float(claimed) if claimed else None
    return (len(times) - 1) / duration


def are_even(times: np.ndarray, fps: float) -> bool:
    """Is each frame shown within half a frame of its place at that rate?"""
    places = times[0] + np.arange(len(times) - 1) / fps
    return bool((np.abs(times[:-1] - places) < 0.5 / fps).all())


class Stamps(NamedTuple):
    """Times of a video without decoding it, in the time base of its stream."""

    shown: np.ndarray  # of each frame in the order of presentation; empty: not usable
    keys: np.ndarray  # of the frames where decoding can start; empty: only at the start of the file
    base: float  # seconds of one unit of time
    end: float  # seconds from the first frame to the end of the video
    num_packets: int  # at least the number of frames
    bad: dict[int, str]  # frames that turned out to be bad when the video was read, and why


def read_stamps(path: str) -> Stamps:
    """The times of a video; those of the last thousand videos are remembered."""
    status = os.stat(path)
    return _read_stamps(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _read_stamps(path: str, size: int, mtime_ns: int) -> Stamps:
    shown, keys, num_packets, end, base = [], [], 0, 0, Fraction(1)
    with open_video(path) as container:
        is_avi = container.format.name == "avi"  # stores the order of frames only: pts is a guess
        unusable = False  # a damaged file may lack frames
        for packet in container.demux(video_stream(container)):
            unusable = unusable or packet.is_corrupt
            if not packet.size:
                continue
            stamp = packet.dts if is_avi else packet.pts
            num_packets, base = num_packets + 1, packet.time_base or base
            end = max(end, (stamp or 0) + (packet.duration or 0))
            if not packet.is_discard:  # by an edit list, which leaves it out
                shown.append(stamp)
            if packet.is_keyframe and not is_avi:
                keys.append(stamp)
        unusable = unusable or is_cut_off(container, end * base)
    if unusable or not shown or None in shown or None in keys or len(set(shown)) < len(shown):
        return Stamps(np.empty(0), np.empty(0), 0, 0, num_packets, {})
    shown, base = np.sort(shown), float(base)
    return Stamps(shown, np.sort(keys), base, (end - shown[0]) * base, num_packets, {})


def frame_times(path: str, num_frames: int) -> np.ndarray | None:
    """Seconds at which each frame is shown, from the first on, and the end; None: not known."""
    with one_sentence(path):
        stamps = read_stamps(path)
        if len(stamps.shown) == num_frames:
            return np.append((stamps.shown - stamps.shown[0]) * stamps.base, stamps.end)
        if len(stamps.shown) and not len(stamps.keys):  # of AVI: two frames in a packet
            return None
        times = decoded_times(path, os.stat(path).st_mtime_ns)
    return times if len(times) == num_frames + 1 else None


@functools.lru_cache(maxsize=1024)
def decoded_times(path: str, mtime_ns: int) -> np.ndarray:
    """The same of a video whose frames only decoding tells, as it is damaged or has no stamps."""
    with open_video(path) as container:
        times = np.array([float(time) for time, _ in timed_frames(container)])
    return times - times[0]


def decoded_frames(
    path: str, wanted: list[int], num_frames: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of frames with their pictures, upright, uint8 (H, W, 3), with contiguous rows.

    Decodes from the key frame before where the times of the frames tell them apart and no damage
    is met, else from the start.

    Args:
        path: of the video.
        wanted: 0-based numbers of frames, sorted, each once.
        num_frames: what the list says.

    Raises:
        BadFrame: one of them is bad; see `timed_frames`.
        UserError: the video cannot be decoded, or has fewer frames.
    """
    with one_sentence(path):
        stamps, missing, last = read_stamps(path), set(wanted), wanted[-1]
        refuse_bad(path, wanted, stamps.bad)
        # with another number of frames, a time does not tell which of those of the list it is
        can_seek = len(stamps.shown) == num_frames and len(stamps.keys) > 0
        if can_seek:
            for index, picture in seek_frames(path, stamps, wanted):
                missing.discard(index)
                yield index, picture
        if missing:
            # counts them: so many cannot be in it, or damage has cost some
            last = num_frames - 1 if can_seek or num_frames > stamps.num_packets else last
            # all of them anew: a file that misleads once may have done so before
            yield from first_frames(path, set(wanted), last, num_frames, stamps.bad)
            refuse_bad(path, wanted, stamps.bad)


def refuse_bad(path: str, wanted: list[int], bad: dict[int, str]) -> None:
    """Raises BadFrame for the first of `wanted` that is bad."""
    for index in wanted:
        if index in bad:
            why = f"{bad[index]}; {MEND}"
            raise BadFrame(f"{path}: frame {index + 1} cannot be decoded: {why}", index)


def seek_frames(path: str, stamps: Stamps, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The frames `wanted`, by number; some lack where seeking does not lead to them.

    Neighbors, and frames between the same two key frames, are decoded in one go.
    """
    key_of = np.searchsorted(stamps.keys, stamps.shown[wanted], side="right") - 1
    if key_of[0] < 0:  # shown before any key frame
        return
    seeks = np.flatnonzero((np.diff(key_of) > 0) & (np.diff(wanted) > 1)) + 1
    with open_video(path) as container:
        stream = video_stream(container)
        to_picture = Converter(stream)
        for group in np.split(np.arange(len(wanted)), seeks):
            numbers = {int(stamps.shown[wanted[i]]): wanted[i] for i in group}
            key = int(stamps.keys[key_of[group[0]]])
            for frame in frames_from(container, stream, key, max(numbers)):
                if frame.pts in numbers:
                    yield numbers[frame.pts], to_picture(frame)


def frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, key: int, last: int
) -> Iterator[av.VideoFrame]:
    """Frames from the key frame shown at `key` to the one shown at `last`, as they are shown.

    They end where the file is damaged.
    """
    with contextlib.suppress(av.FFmpegError):
        container.seek(key, stream=stream)
        # a seek may stop before it
        packets = dropwhile(lambda packet: packet.pts != key, container.demux(stream))
        for frame, why in judged_frames(container, packets):
            if why:
                return
            yield frame
            if frame.pts is not None and frame.pts >= last:
                return


def first_frames(
    path: str, wanted: set[int], last: int, num_frames: int, bad: dict[int, str]
) -> Iterator[tuple[int, np.ndarray]]:
    """The good ones of the frames `wanted`, by number, decoding all from the start to the `last`.

    All that are bad are added to `bad`.
    """
    with open_video(path) as container:
        to_picture = Converter(video_stream(container))
        for count, (_, frame) in enumerate(timed_frames(container)):
            if frame is None:
                raise UserError(
                    f"{path}: the list says {plural(num_frames, 'frame')}, the video has {count}; "
                    "write the list again with pt_dataset/make_json.py"
                )
            if isinstance(frame, str):
                bad[count] = frame
            elif count in wanted:
                yield count, to_picture(frame)
            if count == last:
                return


class Converter:
    """Frames to upright RGB pictures of one size: that which the first frame of the file has."""

    def __init__(self, stream: av.VideoStream):
        self.size, self.scaler = (stream.width, stream.height), VideoReformatter()
        self.has_matrix: bool | None = None  # of the display, as the first frame says

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        rgb = {"format": "rgb24", "interpolation": "BICUBIC", "threads": 1}
        picture = self.scaler.reformat(frame, *self.size, **rgb)
        # in its own memory, with what FFmpeg leaves between rows: to_ndarray would take three times
        # as long as the conversion
        plane = picture.planes[0]
        # pyrefly: ignore[no-matching-overload]  # its stub lacks that it is a buffer
        rows = np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size)
        pixels = rows[:, : 3 * picture.width].reshape(picture.height, picture.width, 3)
        # not the matrix of each: a frame and its side data hold each other, and their memory
        if self.has_matrix is None:
            self.has_matrix = frame.side_data.get("DISPLAYMATRIX") is not None
        return upright(pixels, frame) if self.has_matrix or frame.rotation else pixels


def upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Pixels (H, W, ...) of a frame, turned and mirrored as its display matrix says."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # a pixel at x, y is shown at a x + c y, b x + d y; in between, at the nearest quarter turn
    # pyrefly: ignore[no-matching-overload]  # its stub lacks that it is a buffer
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    down, right = d, a
    if abs(b) > abs(a):
        pixels, down, right = pixels.swapaxes(0, 1), b, c
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
