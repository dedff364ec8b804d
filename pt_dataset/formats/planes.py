"""Planes of decoded frames, scaled and upright, as they are stored: without RGB in between."""

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pt_dataset.formats.video_file import upright


def scaled_size(width: int, height: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    """Width and height with that short side; 0 keeps both. Both are rounded to a `multiple`."""
    scale = Fraction(short_side or min(width, height), min(width, height)) / multiple
    return round(width * scale) * multiple, round(height * scale) * multiple


def upright_planes(
    frame: av.VideoFrame,
    size: tuple[int, int],
    scaler: VideoReformatter,
    pixels: str,
    color_range: str,
) -> list[np.ndarray]:
    """Y, U and V by BT.601, uint8 (H, W) each, scaled to `size` (width, height), then turned.

    Args:
        pixels: FFmpeg's name of their form.
        color_range: "JPEG", Y from 0 to 255, or "MPEG", from 16 to 235.
    """
    form: dict[str, Any] = {
        "format": pixels,
        "dst_colorspace": "ITU601",
        "dst_color_range": color_range,
    }
    scaled = scaler.reformat(frame, *size, **form, interpolation="BICUBIC", threads=1)
    planes = []
    for plane in scaled.planes:
        # pyrefly: ignore[no-matching-overload]  # its stub lacks that it is a buffer
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        planes.append(np.ascontiguousarray(upright(rows[:, : plane.width], frame)))
    return planes
