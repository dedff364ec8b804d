"""A video with what the network says of it burnt into its frames."""

import os
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from config import UserError
from pt_dataset.formats.times import seconds
from pt_dataset.inputs.windows import frames_of
from pt_dataset.video_list import Video
from utils.actions.predictions import Prediction, labels_at

BAR_COLOR = (58, 134, 255)
TIME_BASE = Fraction(1, 90_000)  # s; as of most videos
MIN_HEIGHT = 240  # pixels; text on smaller frames cannot be read

Labels = list[tuple[str, float]]  # classes and their scores, the best first


def annotate_video(
    path: Path, video: Video, prediction: Prediction, class_names: list[str]
) -> None:
    """Writes the video to `path` with its labels burnt in."""
    times = seconds(video)
    assert video.fps and times is not None  # predict leaves out those without a rate
    frames = (
        (frame, labels_at(prediction, class_names, time), time)
        for frame, time in zip(frames_of(video), times.tolist(), strict=False)
    )
    write_labeled_video(path, frames, video.fps)


def write_labeled_video(
    path: Path, frames: Iterable[tuple[np.ndarray, Labels, float]], fps: float
) -> None:
    """Encodes H.264 with the labels of each frame in its upper left corner.

    Args:
        frames: uint8 (H, W, 3) RGB, of one size, each with its labels and its time in seconds.

    Raises:
        UserError: the file cannot be written, or its ending is none of a video.
    """
    import av  # here, since nothing else of utils needs it

    try:
        # not config.whole: FFmpeg takes the format from the name's ending
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished_") as folder:
            with av.open(f"{folder}/{path.name}", "w") as container:
                encode(container, frames, fps)
            os.replace(f"{folder}/{path.name}", path)
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be written: {why}; use an ending such as .mp4") from None


def encode(container, frames: Iterable[tuple[np.ndarray, Labels, float]], fps: float) -> None:
    """Into an open container of PyAV."""
    import av

    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = TIME_BASE
    for index, (frame, labels, time) in enumerate(frames):
        picture = burn_in(frame, labels)
        if index == 0:
            stream.height, stream.width = picture.shape[:2]
        shown = av.VideoFrame.from_ndarray(picture, "rgb24")
        shown.time_base, shown.pts = TIME_BASE, round(time / TIME_BASE)
        container.mux(stream.encode(shown))
    container.mux(stream.encode())


def burn_in(frame: np.ndarray, labels: Labels) -> np.ndarray:
    """The frame, of even size as H.264 wants it, with a line and a bar for each label."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(frame)
    scale = max(1, -(-MIN_HEIGHT // picture.height))
    picture = picture.resize([scale * side // 2 * 2 for side in picture.size])
    size = max(11, picture.height // 22)
    font = ImageFont.load_default(size)
    line = round(1.5 * size)
    texts = [f"{100 * score:3.0f} %  {name}" for name, score in labels]
    draw = ImageDraw.Draw(picture, "RGBA")
    width = min(picture.width, 2 * size + round(max(draw.textlength(t, font) for t in texts)))
    draw.rectangle((0, 0, width, line * len(texts) + size // 2), fill=(0, 0, 0, 160))
    for i, (text, (_, score)) in enumerate(zip(texts, labels, strict=True)):
        top = size // 4 + i * line
        bar = (0, top, round(width * score), top + line - 2)
        draw.rectangle(bar, fill=(*BAR_COLOR, 150))
        draw.text((size // 2, top + line / 2), text, font=font, fill="white", anchor="lm")
    return np.asarray(picture)
