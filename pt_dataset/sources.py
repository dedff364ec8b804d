"""(video, frame indices) -> pixels. Only behind this door is it known how frames are kept.

A video is a folder of numbered pictures, `archive.zip/folder` with such pictures in it, a zip of
the pictures of one video, or a video file. Optical flow is kept as gray pictures of u and of v:

    FOLDER/flow_x_00001.jpg and FOLDER/flow_y_00001.jpg     named FOLDER
    tvl1_flow/u/CLIP/frame000001.jpg and tvl1_flow/v/CLIP   named tvl1_flow/{}/CLIP
"""

import io
import os
import re
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from config import UserError
from pt_dataset import video_file
from pt_dataset.frame_order import FLOW_PREFIXES, FRAME_NAME, by_kind, in_order
from pt_dataset.video_file import VIDEO_NAME
from pt_dataset.zip_frames import ZipFrames, open_archive

__all__ = [
    "FRAME_NAME",
    "VIDEO_NAME",
    "BadFrame",
    "count_flow",
    "count_frames",
    "exists",
    "frame_names",
    "frame_rate",
    "read_flow",
    "read_frames",
    "zip_flow",
    "zip_videos",
]

# what Pillow raises on bad files
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
ARCHIVE = re.compile(r"\.zip(?=/|$)", re.IGNORECASE)


class BadFrame(UserError):
    """One frame cannot be decoded; the others of the video may well be."""


class FolderFrames:
    """The encoded frames of a folder, in the order of time; of flow those with a `prefix`."""

    def __init__(self, folder: str, prefix: str = ""):
        self.folder, self.names = folder, frame_names(folder, prefix)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def read(self, index: int) -> bytes:
        with open(self.name(index), "rb") as file:
            return file.read()


def frame_names(folder: str | Path, prefix: str = "") -> list[str]:
    """File names of the frames in a folder in the order of time, whatever their naming scheme.

    Other files are ignored; with a `prefix`, that of flow, all but the files that have it.

    Raises:
        UserError: no such folder, no frames in it, two naming schemes in it, or a number missing
            between two frames.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no such folder of frames") from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    return in_order(by_kind(names)[prefix], str(folder))


def split_archive(path: str) -> tuple[str, str] | None:
    """The archive and the folder in it that `path` names; None where no archive is in it."""
    for match in ARCHIVE.finditer(path):
        if os.path.isfile(path[: match.end()]):
            return path[: match.end()], path[match.end() + 1 :]
    return None


def is_video_file(video: str) -> bool:
    """Whether to open `video` as a video file; a folder of frames may be called clip.mp4, too."""
    named = VIDEO_NAME.fullmatch(os.path.basename(video))
    return bool(named) and not os.path.isdir(video) and not split_archive(video)


def open_frames(video: str, prefix: str = "") -> FolderFrames | ZipFrames:
    """The encoded frames of a folder on disk or in an archive."""
    inside = split_archive(video)
    return ZipFrames(*inside, prefix) if inside else FolderFrames(video, prefix)


def open_flow(flow: str) -> list[FolderFrames | ZipFrames]:
    """The encoded pictures of u and of v, as many of each."""
    if "{}" in flow:
        u, v = (open_frames(flow.replace("{}", name)) for name in "uv")
    else:
        u, v = (open_frames(flow, prefix) for prefix in FLOW_PREFIXES)
    if len(u) != len(v):
        raise UserError(f"{flow}: {len(u)} pictures of u, {len(v)} of v; extract the flow again")
    return [u, v]


def exists(video: str) -> bool:
    """Whether there is such a file, folder, or folder in an archive; of flow, both of u and v."""
    if "{}" in video:
        return all(exists(video.replace("{}", name)) for name in "uv")
    inside = split_archive(video)
    if inside is None:
        return os.path.exists(video)
    return open_archive(inside[0]).has(inside[1])


def zip_videos(path: str | Path) -> dict[str, int]:
    """Folders of an archive that hold frames ("": its root), and how many.

    0 where there is something wrong with them, which `count_frames` then says.
    """
    return open_archive(str(path)).folders()


def zip_flow(path: str | Path) -> set[str]:
    """Folders of an archive with flow_x_ and flow_y_ pictures, which may have frames as well."""
    archive = open_archive(str(path))
    keys = (archive.key(place).decode().partition("\0") for place in range(len(archive)))
    return {folder for folder, _, prefix in keys if prefix}


def count_frames(video: str) -> int:
    """How many frames a video has: measured, whatever its header says.

    Raises:
        UserError: the video cannot be used.
    """
    return video_file.count_frames(video) if is_video_file(video) else len(open_frames(video))


def count_flow(flow: str) -> int:
    """How many fields of flow there are: one fewer than frames."""
    return len(open_flow(flow)[0])


def frame_rate(video: str) -> float | None:
    """Frames a second of a video file; None of frames, which do not tell."""
    return video_file.frame_rate(video) if is_video_file(video) else None


def read_frames(video: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Decoded frames, uint8 (T, H, W, 3), contiguous.

    Args:
        video: folder, archive.zip/folder, archive, or video file.
        indices: 0-based frame numbers; each frame is decoded once, however often it is named.
        num_frames: what the list says; a video with fewer is an error even where `indices` would
            not notice.

    Raises:
        BadFrame: one frame cannot be decoded; it names the file.
        UserError: the video cannot be used.
    """
    if is_video_file(video):
        return video_file.read(video, indices, num_frames)
    frames = open_frames(video)
    if num_frames > len(frames):
        raise UserError(
            f"{video}: the list says {num_frames} frames, the folder has {len(frames)}; "
            "write the list again with pt_dataset/make_json.py"
        )
    return decode_all(frames, indices, 3)


def read_flow(flow: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Optical flow as stored, uint8 (T, H, W, 2): u, v.

    Args:
        flow: where it is, see above.
        indices: 0-based; field k leads from frame k to k + 1, so they end at num_frames - 2.
        num_frames: frames of the video by its list.

    Raises:
        BadFrame: one picture cannot be decoded; it names the file.
        UserError: the flow cannot be used.
    """
    pictures = open_flow(flow)
    if num_frames - 1 > len(pictures[0]):
        raise UserError(
            f"{flow}: {len(pictures[0])} fields of flow where the list says {num_frames} frames, "
            f"which have {num_frames - 1} between them; extract the flow again"
        )
    u, v = (decode_all(frames, indices, 1) for frames in pictures)
    if u.shape != v.shape:
        sizes = "{1}x{0}, v {3}x{2}".format(*u.shape[1:3], *v.shape[1:3])
        raise UserError(f"{flow}: pictures of u are {sizes}; extract the flow again")
    return np.concatenate([u, v], axis=3)


def decode_all(frames: FolderFrames | ZipFrames, indices: list[int], channels: int) -> np.ndarray:
    """Decoded pictures, uint8 (T, H, W, channels): 3 of RGB or 1 of gray."""
    clip = None
    places: dict[int, int] = {}  # index -> where in the clip it already stands
    for place, index in enumerate(indices):
        if index in places:
            clip[place] = clip[places[index]]
            continue
        try:
            data = frames.read(index)
            if clip is None:
                clip = np.empty((len(indices), *picture_size(data), channels), np.uint8)
            size = decode_into(data, clip[place])
        except PICTURE_ERRORS as error:
            why = getattr(error, "strerror", None) or error
            if isinstance(error, UnidentifiedImageError):
                why = "it is no picture"  # Pillow names an object in memory
            name = frames.name(index)
            raise BadFrame(f"{name} cannot be decoded: {why}; extract the video again") from None
        if size != clip.shape[1:3]:
            sizes = "{1}x{0}, the frames before it {3}x{2}".format(*size, *clip.shape[1:3])
            raise BadFrame(f"{frames.name(index)} is {sizes}; extract the video again")
        places[index] = place
    return clip


def picture_size(data: bytes) -> tuple[int, int]:
    """Height and width of an encoded picture, from its header."""
    try:
        return simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError:
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width


def decode_into(data: bytes, out: np.ndarray) -> tuple[int, int]:
    """Decodes a picture into `out`, uint8 (H, W, 3) as RGB or (H, W, 1) as gray, if it fits.

    Returns:
        height and width of the picture.
    """
    mode, colorspace = ("RGB", "RGB") if out.shape[2] == 3 else ("L", "GRAY")
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(data)
        if (height, width) == out.shape[:2] and stored not in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data, colorspace, buffer=out)
            return height, width
    except ValueError:
        pass  # no JPEG or a broken one: Pillow reads it or says what is wrong
    with Image.open(io.BytesIO(data)) as image:
        picture = np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)
    if picture.shape == out.shape:
        out[:] = picture
    return picture.shape[:2]
