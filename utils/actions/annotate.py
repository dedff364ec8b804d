"""A video, or a few of its frames, with what the network says and sees of it burnt in."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from config import UserError, refuse, whole
from pt_dataset.formats.times import seconds
from pt_dataset.inputs.windows import TOGETHER, frames_of
from pt_dataset.processes.memory import free_memory
from pt_dataset.sources import read_frames
from pt_dataset.video_list import Video
from utils.actions.heatmap import Heat
from utils.actions.predictions import Prediction, labels_at, nearest_window
from utils.memory.fit import gib

BAR_COLOR = (58, 134, 255)
LITTLE = {"rc-lookahead": "10", "threads": "4"}  # for x264: half the memory of its own choice
ENCODED, HEATED = 130, 110  # bytes a pixel of coding, and of drawing heat; measured
TIME_BASE = Fraction(1, 90_000)  # s; as of most videos
MIN_HEIGHT = 240  # pixels; text on smaller frames cannot be read
NUM_PICTURES = 8  # in a strip

Labels = list[tuple[str, float]]  # classes and their scores, the best first


def annotate_video(
    path: Path,
    video: Video,
    prediction: Prediction,
    class_names: list[str],
    heat: Heat | None = None,
) -> None:
    """Writes the video to `path` with its labels burnt in, and its heat where that is given."""
    times = seconds(video)
    assert video.fps and times is not None  # predict leaves out those without a rate
    check_memory(video, ENCODED + HEATED * bool(heat))

    def annotated() -> Iterator[tuple[np.ndarray, Labels, float]]:
        for index, (frame, time) in enumerate(zip(frames_of(video), times.tolist(), strict=False)):
            labels = labels_at(prediction, class_names, time)
            if heat:
                window = nearest_window(prediction, time)
                frame = heat.drawn_on(frame, window, index)
                name, score = heat.classes[window]
                others = [(other, score) for other, score in labels if other != name]
                labels = [(f"{name} (heat)", score), *others][:3]
            yield frame, labels, time

    write_labeled_video(path, annotated(), video.fps)


def check_memory(video: Video, bytes_a_pixel: int) -> None:
    """Raises UserError where the system would end the process, since the frames are too large."""
    height, width, _ = read_frames(video.path, [0], video.num_frames)[0].shape
    needed = bytes_a_pixel * height * width + TOGETHER
    refuse(
        needed > free_memory(),
        f"{video.path}: to draw on frames of {width} x {height} takes {gib(needed)}, and "
        f"{gib(free_memory())} are free; make it smaller with pt_dataset/shrink_videos.py",
    )


def draw_strip(path: Path, video: Video, prediction: Prediction, heat: Heat) -> None:
    """Frames from all over a video, above, and below with their heat and the class it is of."""
    from PIL import Image

    times = seconds(video)
    numbers = np.linspace(0, video.num_frames - 1, NUM_PICTURES).astype(int)
    numbers = np.unique(numbers).tolist()
    frames = read_frames(video.path, numbers, video.num_frames)
    columns = []
    for number, frame in zip(numbers, frames, strict=True):
        window = 0 if times is None else nearest_window(prediction, times[number])
        height = min(len(frame), MIN_HEIGHT)
        width = frame.shape[1] * height // len(frame)
        small = Image.fromarray(frame).resize((width, height))
        hot = heat.drawn_on(np.asarray(small), window, number)
        hot = burn_in(hot, [heat.classes[window]])
        plain = small.resize(hot.shape[1::-1])
        columns.append(np.concatenate([np.asarray(plain), hot]))
    try:
        with whole(path) as temporary:
            Image.fromarray(np.concatenate(columns, axis=1)).save(temporary, "png")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose --out") from None


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
        path.parent.mkdir(parents=True, exist_ok=True)
        # not config.whole: FFmpeg takes the format from the name's ending
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished_") as folder:
            with av.open(f"{folder}/{path.name}", "w") as container:
                encode(container, frames, fps)
            os.replace(f"{folder}/{path.name}", path)
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        why = getattr(error, "strerror", None) or error
        ending = "" if isinstance(error, OSError) else "; use an ending such as .mp4"
        raise UserError(f"{path} cannot be written: {why}{ending}") from None


def encode(container, frames: Iterable[tuple[np.ndarray, Labels, float]], fps: float) -> None:
    """Into an open container of PyAV."""
    import av

    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.pix_fmt, stream.options = "yuv420p", LITTLE
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
