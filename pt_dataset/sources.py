"""(video, frame indices) -> pixels. Only this file knows how frames are named and counted."""

import io
import os
import re
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from config import UserError

# what Pillow raises on bad files
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# frame000001.jpg, image_00001.jpg, 001.jpg
FRAME_NAME = re.compile(r"(.*?)(\d+)(\.(?:jpe?g|png|bmp|webp))", re.IGNORECASE)
VIDEO_NAME = re.compile(
    r"[^.].*\.(3gp|asf|avi|divx|flv|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)",
    re.IGNORECASE,
)


class BadFrame(UserError):
    """One frame cannot be decoded; others of its video may."""


class MissingVideo(UserError):
    """There is nothing at the path of a video."""


class EmptyVideo(UserError):
    """A video without a single frame."""


class FrameGap(UserError):
    """The numbers of the frames of a video leave one out, or have one twice."""


def frame_names(folder: str | Path) -> list[str]:
    """File names of the frames in a folder in the order of time, whatever their naming scheme.

    Other files are ignored.

    Raises:
        UserError: no such folder, no frames in it, two naming schemes in it, or a number missing
            between two frames.
    """
    try:
        matches = [match for match in map(FRAME_NAME.fullmatch, os.listdir(folder)) if match]
    except (FileNotFoundError, NotADirectoryError):
        raise MissingVideo(f"{folder}: no such folder of frames") from None
    if not matches:
        raise EmptyVideo(f"{folder}: no frames (numbered .jpg or .png files) in this folder")
    schemes = {(match[1], match[3]) for match in matches}
    if len(schemes) > 1:
        names = " and ".join(sorted(f"{prefix}*{suffix}" for prefix, suffix in schemes)[:2])
        raise UserError(f"{folder}: frames of different names, {names}; keep one kind")
    numbers = sorted((int(match[2]), match[0]) for match in matches)
    first = numbers[0][0]
    for i, (number, name) in enumerate(numbers):
        if number != first + i:
            raise FrameGap(
                f"{folder}: frame {first + i} is missing or doubled before {name}; extract the "
                f"video again"
            )
    return [name for _, name in numbers]


def count_frames(video: str) -> int:
    """The number of frames of a video, counted.

    Raises:
        UserError: the video cannot be used.
    """
    return len(frame_names(video))


def count_flow(flow: str) -> int:
    """The number of flow fields, counted; both components must have as many.

    Raises:
        UserError: the flow cannot be used.
    """
    return len(flow_names(flow)[0])


def flow_names(flow: str) -> tuple[list[str], list[str]]:
    """Paths of the pictures of u and of v, in the order of time."""
    if "{}" in flow:
        folders = [flow.replace("{}", part) for part in "uv"]
        u, v = ([os.path.join(folder, n) for n in frame_names(folder)] for folder in folders)
    else:
        names = sorted(os.listdir(flow))
        u, v = ([os.path.join(flow, n) for n in names if n.startswith(f"flow_{c}_")] for c in "xy")
    if len(u) != len(v):
        raise UserError(f"{flow}: {len(u)} fields of u, {len(v)} of v")
    return u, v


def read_flow(flow: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Decoded fields, uint8 (T, H, W, 2): u and v."""
    components = []
    for paths in flow_names(flow):
        clip = np.empty((len(indices), *frame_size(paths[indices[0]]), 3), np.uint8)
        for place, index in enumerate(indices):
            decode_into(paths[index], clip[place])
        components.append(clip[..., 0])
    return np.stack(components, axis=-1)


def read_frames(video: str, indices: list[int], num_frames: int) -> np.ndarray:
    """Decoded frames of a frame folder, uint8 (T, H, W, 3), contiguous.

    Args:
        video: path of the folder.
        indices: 0-based frame numbers; each file is decoded once, however often it is named.
        num_frames: what the list says; a folder with fewer is an error even where `indices` would
            not notice.

    Raises:
        UserError: the folder or a frame cannot be read; it names the file.
    """
    names = frame_names(video)
    if num_frames > len(names):
        raise UserError(
            f"{video}: the list says {num_frames} frames, the folder has {len(names)}; "
            "write the list again with pt_dataset/make_json.py"
        )
    paths = [os.path.join(video, names[index]) for index in indices]
    clip = np.empty((len(paths), *frame_size(paths[0]), 3), np.uint8)
    places: dict[str, int] = {}  # file -> where in the clip it already stands
    for place, path in enumerate(paths):
        if path in places:
            clip[place] = clip[places[path]]
        else:
            decode_into(path, clip[place])
            places[path] = place
    return clip


def frame_size(path: str) -> tuple[int, int]:
    """Height and width of a picture, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except PICTURE_ERRORS as error:
        raise BadFrame(f"{path} cannot be decoded: {error}; extract the video again") from None


def decode_into(path: str, out: np.ndarray) -> None:
    """Decodes a picture into `out`, uint8 (H, W, 3), as RGB."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
        if (height, width) == out.shape[:2] and color_space not in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data, buffer=out)
            return
    except ValueError:
        pass  # no JPEG or a broken one: Pillow reads it or says what is wrong
    try:
        with Image.open(io.BytesIO(data)) as image:
            picture = np.asarray(image.convert("RGB"))
    except PICTURE_ERRORS as error:
        raise BadFrame(f"{path} cannot be decoded: {error}; extract the video again") from None
    if picture.shape != out.shape:
        sizes = "{1}x{0}, the frames before it {3}x{2}".format(*picture.shape[:2], *out.shape[:2])
        raise UserError(f"{path} is {sizes}; extract the video again")
    out[:] = picture
