"""(video, frame indices) -> pixels. Only behind this door is it known how frames are kept.

A video is a folder of numbered pictures, `archive.zip/folder` with such pictures in it, a zip of
the pictures of one video, or a video file. Optical flow is kept as gray pictures of u and of v:

    FOLDER/flow_x_00001.jpg and FOLDER/flow_y_00001.jpg     named FOLDER
    tvl1_flow/u/CLIP/frame000001.jpg and tvl1_flow/v/CLIP   named tvl1_flow/{}/CLIP
"""

import io
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from config import UserError
from pt_dataset.frame_order import FLOW_PREFIXES, FRAME_NAME, by_kind, in_order
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
    "read_crops",
    "read_flow",
    "read_flow_crops",
    "read_frames",
    "zip_flow",
    "zip_videos",
]

VIDEO_NAME = re.compile(
    r"[^.].*\.(3gp|asf|avi|divx|flv|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)",
    re.IGNORECASE,
)
# what Pillow raises on bad files
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
ARCHIVE = re.compile(r"\.zip(?=/|$)", re.IGNORECASE)


# frames (T, H, W, C) -> clips (T, h, w, C), of which there are as many each time
Cut = Callable[[np.ndarray], list[np.ndarray]]


class BadFrame(UserError):
    """One frame, number `index`, cannot be used; the others of the video may well be."""

    def __init__(self, message: str, index: int | None = None):
        super().__init__(message)
        self.index = index


class FolderFrames:
    """The encoded frames of a folder, in the order of time; of flow those with a `prefix`."""

    def __init__(self, folder: str, prefix: str = ""):
        self.folder, self.names = folder, frame_names(folder, prefix)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def read(self, index: int) -> bytes:
        with open(self.name(index), "rb", buffering=0) as file:
            return file.readall()


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
    if is_video_file(video):
        from pt_dataset import video_file  # here and below, since few data sets need FFmpeg

        return video_file.count_frames(video)
    return len(open_frames(video))


def count_flow(flow: str) -> int:
    """How many fields of flow there are: one fewer than frames."""
    return len(open_flow(flow)[0])


def frame_rate(video: str) -> float | None:
    """Frames a second of a video file; None of frames, which do not tell."""
    if not is_video_file(video):
        return None
    from pt_dataset import video_file

    return video_file.frame_rate(video)


def whole(height: int, width: int) -> Cut:
    """For `read_crops`: all of each frame."""
    return lambda frames: [frames]


def read_frames(video: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Whole frames, uint8 (T, H, W, 3), contiguous; arguments and errors of `read_crops`."""
    return read_crops(video, indices, num_frames, whole)[0]


def read_crops(
    video: str,
    indices: list[int],
    num_frames: int,
    cut_for: Callable[[int, int], Cut],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """What is to be seen of decoded frames, uint8 (K, T, h, w, 3), contiguous.

    Each frame is cut as soon as it is decoded, while it is in the cache of the processor.

    Args:
        video: folder, archive.zip/folder, archive, or video file.
        indices: 0-based frame numbers; each frame is decoded once, however often it is named.
        num_frames: what the list says; a video with fewer is an error even where `indices` would
            not notice.
        cut_for: called once, with height and width of a frame; what it returns gets the frames,
            which it must not keep.
        out: where to put it, if not into new memory.

    Raises:
        BadFrame: one frame cannot be decoded, or has another size; it names the file.
        UserError: the video cannot be used.
    """
    if is_video_file(video):
        from pt_dataset import video_file

        return video_file.read(video, indices, num_frames, cut_for, out)
    frames = open_frames(video)
    if num_frames > len(frames):
        raise UserError(
            f"{video}: the list says {num_frames} frames, the folder has {len(frames)}; "
            "write the list again with pt_dataset/make_json.py"
        )
    return decode_all(frames, indices, 3, cut_for, out)


def read_flow(flow: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Whole fields of flow, uint8 (T, H, W, 2); arguments and errors of `read_flow_crops`."""
    return read_flow_crops(flow, indices, num_frames, whole)[0]


def read_flow_crops(
    flow: str, indices: list[int], num_frames: int, cut_for: Callable[[int, int], Cut]
) -> np.ndarray:
    """Optical flow as stored, uint8 (K, T, h, w, 2): u, v.

    Args:
        flow: where it is, see above.
        indices: 0-based; field k leads from frame k to k + 1, so they end at num_frames - 2.
        num_frames: frames of the video by its list.
        cut_for: see `read_crops`; here called for u and for v, and must return the same.

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
    sizes = []

    def cut_noting_size(height: int, width: int) -> Cut:
        sizes.append((width, height))
        return cut_for(height, width)

    u, v = (decode_all(frames, indices, 1, cut_noting_size) for frames in pictures)
    if sizes[0] != sizes[1]:
        sizes = "{}x{}, v {}x{}".format(*sizes[0], *sizes[1])
        raise UserError(f"{flow}: pictures of u are {sizes}; extract the flow again")
    return np.concatenate([u, v], axis=-1)


def decode_all(
    frames: FolderFrames | ZipFrames,
    indices: list[int],
    channels: int,
    cut_for: Callable[[int, int], Cut],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """What `cut_for` leaves of pictures, uint8 (K, T, h, w, channels): 3 of RGB or 1 of gray."""
    frame = cut = None  # the first is decoded into again and again
    clips = out
    places: dict[int, int] = {}  # index -> where in the clips it already stands
    for place, index in enumerate(indices):
        if index in places:
            clips[:, place] = clips[:, places[index]]
            continue
        try:
            data = frames.read(index)
            if frame is None:
                frame = np.empty((1, *picture_size(data), channels), np.uint8)
            size = decode_into(data, frame[0])
        except PICTURE_ERRORS as error:
            why = getattr(error, "strerror", None) or error
            if isinstance(error, UnidentifiedImageError):
                why = "it is no picture"  # Pillow names an object in memory
            message = f"{frames.name(index)} cannot be decoded: {why}; extract the video again"
            raise BadFrame(message, index) from None
        if size != frame.shape[1:3]:
            raise odd_one(frames, indices)
        cut = cut or cut_for(*size)
        crops = cut(frame)
        if clips is None:
            clips = np.empty((len(crops), len(indices), *crops[0].shape[1:]), np.uint8)
        for clip, crop in zip(clips, crops, strict=True):
            clip[place] = crop[0]
        places[index] = place
    return clips


def odd_one(frames: FolderFrames | ZipFrames, indices: list[int]) -> BadFrame:
    """The error that names the first frame of another size than most of `indices` have."""
    sizes = {}
    for index in dict.fromkeys(indices):
        try:
            sizes[index] = picture_size(frames.read(index))
        except PICTURE_ERRORS:
            continue  # of no known size
    usual = Counter(sizes.values()).most_common(1)[0][0]
    odd = next(index for index, size in sizes.items() if size != usual)
    words = "{1}x{0}, the other frames {3}x{2}".format(*sizes[odd], *usual)
    return BadFrame(f"{frames.name(odd)} is {words}; extract the video again", odd)


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
