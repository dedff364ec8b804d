"""(video, frame indices) -> pixels. Only behind this door is it known how frames are kept.

A video is a folder of numbered pictures, `archive.zip/folder` with such pictures in it, a zip of
the pictures of one video, or a video file. What few data sets need is imported where it is used.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import simplejpeg

from config import UserError, plural
from pt_dataset.formats.frame_folder import FolderFrames

VIDEO_NAME = re.compile(
    r"[^.].*\.(3g[2p]|amv|asf|avi|divx|dv|f4v|flv|gif|h?26[45]|hevc|ivf|m[12]v|m2?ts|m2t|m4v|mjpe?g"
    r"|mkv|mov|mp4|mpe?g|mpv|mxf|nut|og[mv]|qt|rmvb|rm|tod|ts|vob|webm|wmv|wtv|y4m)",
    re.IGNORECASE | re.DOTALL,  # a name may have line breaks in it
)
JPEG, START_OF_SCAN = b"\xff\xd8", b"\xff\xda"
MAX_PIXELS = 1 << 26  # of a picture: twice those of 8K video, so that a damaged header costs little
ARCHIVE = re.compile(r"\.zip(?=/|$)", re.IGNORECASE)
MEND = "get it again; a training goes on with --on-bad-frame nearest"


class BadFrame(UserError):
    """One frame, number `index`, cannot be used; the others of the video may well be."""

    def __init__(self, message: str, index: int | None = None):
        super().__init__(message)
        self.index = index


class Pictures(Protocol):
    """The encoded frames of a video in the order of time, wherever they are."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Where a frame is, for messages."""

    def read(self, index: int) -> bytes:
        """The bytes of a frame; raises ValueError or OSError where they cannot be had."""


def split_archive(path: str) -> tuple[str, str] | None:
    """The archive and the folder in it that `path` names; None where no archive is in it."""
    for match in ARCHIVE.finditer(path):
        if os.path.isfile(path[: match.end()]):
            return path[: match.end()], path[match.end() + 1 :]
    return None


def is_video_file(video: str) -> bool:
    """Whether to open `video` as a video file: any file that is there, or that is called so.

    A folder of frames may be called clip.mp4, too.
    """
    if os.path.isdir(video) or split_archive(video):
        return False
    return os.path.isfile(video) or bool(VIDEO_NAME.fullmatch(os.path.basename(video)))


def open_frames(video: str, prefix: str = "", any_numbers: bool = False) -> Pictures:
    """The encoded frames of a folder on disk, of `any_numbers` there, or in an archive."""
    inside = split_archive(video)
    if inside is None:
        return FolderFrames(video, prefix, any_numbers)
    from pt_dataset.formats.zip_frames import ZipFrames

    return ZipFrames(*inside, prefix)


def exists(video: str) -> bool:
    """Whether there is such a file, folder, or folder in an archive; of flow, both of u and v."""
    if "{}" in video:
        return all(exists(video.replace("{}", name)) for name in "uv")
    inside = split_archive(video)
    if inside is None:
        return os.path.exists(video)
    from pt_dataset.formats.zip_frames import open_archive

    return open_archive(inside[0]).has(inside[1])


def frames(
    video: str, indices: list[int], num_frames: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Decoded frames of a video, one after another.

    Take of a frame what is to be kept before the next one is asked for: it is then still in the
    cache of the processor, and the next one may be decoded into the same memory.

    Args:
        indices: 0-based frame numbers; each frame is decoded once, however often it is named.
        num_frames: what the list says; a video with fewer is an error even where `indices` would
            not notice.

    Yields:
        The frame's places in `indices`, and the frame, uint8 (H, W, 3) with contiguous rows, all of
        one size, to be read only. Where seeking in a video file turns out to mislead, frames come a
        second time, and those count.

    Raises:
        BadFrame: one frame cannot be decoded, or has another size; it names the file.
        UserError: the video cannot be used.
    """
    places = places_of(indices)
    if is_video_file(video):
        from pt_dataset.formats import video_file

        decoded = video_file.decoded_frames(video, sorted(places), num_frames)
    else:
        # whoever counted them for the list has looked for gaps; a lost frame makes them too few
        pictures = open_frames(video, any_numbers=True)
        if num_frames > len(pictures):
            raise UserError(
                f"{video}: the list says {plural(num_frames, 'frame')}, the folder has "
                f"{len(pictures)}; write the list again with pt_dataset/make_json.py"
            )
        decoded = decoded_pictures(pictures, list(places), channels=3)
    for index, frame in decoded:
        yield places[index], frame


def read_frames(video: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Whole frames, uint8 (T, H, W, 3), contiguous; arguments and errors of `frames`."""
    return stacked(frames(video, indices, num_frames), len(indices))


def places_of(indices: list[int]) -> dict[int, list[int]]:
    """Where each index stands among `indices`; in the order in which they come first."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        places.setdefault(index, []).append(place)
    return places


def stacked(found: Iterable[tuple[list[int], np.ndarray]], count: int) -> np.ndarray:
    """All of what `frames` yields in memory of its own, (count, H, W, C)."""
    whole = None
    for places, frame in found:
        if whole is None:
            whole = np.empty((count, *frame.shape), np.uint8)
        whole[places] = frame
    assert whole is not None  # there is no video without a frame
    return whole


def decoded_pictures(
    pictures: Pictures, indices: list[int], channels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Each index with its picture, uint8 (H, W, channels): 3 of RGB or 1 of gray.

    They may all be in the same memory, where the next one replaces the one before.
    """
    frame = None
    for index in indices:
        try:
            picture = decoded(pictures.read(index), channels, frame)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            message = f"{pictures.name(index)} cannot be decoded: {why}; {MEND}"
            raise BadFrame(message, index) from None
        if frame is not None and picture.shape != frame.shape:
            from pt_dataset.formats.other_pictures import odd_one

            raise odd_one(pictures, indices)
        frame = picture
        yield index, frame


def decoded(data: bytes, channels: int, out: np.ndarray | None = None) -> np.ndarray:
    """A picture, uint8 (H, W, channels), in the memory of `out` if it can be.

    Raises:
        ValueError: it cannot be decoded, or only with a warning of libjpeg: it is damaged.
    """
    size = plain_jpeg(data)
    if size is None:
        from pt_dataset.formats import other_pictures

        return other_pictures.decoded(data, channels)
    if out is None or out.shape[:2] != size:
        out = np.empty((*size, channels), np.uint8)
    simplejpeg.decode_jpeg(data, "RGB" if channels == 3 else "GRAY", buffer=out)
    return out


def plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG that simplejpeg alone reads right; None of other pictures."""
    # only in front of the pixels, which would take long to search
    if not data.startswith(JPEG) or data.find(b"Exif\0", 0, data.find(START_OF_SCAN)) >= 0:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    except KeyError:  # colors sampled as 4:4:1, which it does not know the name of
        return None
    if int(height) * int(width) > MAX_PIXELS:
        raise ValueError(f"{width}x{height} is larger than any frame")
    return None if colors in ("CMYK", "YCCK") else (int(height), int(width))
