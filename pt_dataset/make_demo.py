"""Write the demo data set: eight motions that only the order of frames tells apart.

    python pt_dataset/make_demo.py [--data-root videos_dataset]

The classes are four pairs. A video of the second class of a pair is drawn like one of the first and
then played backwards, so that no frame, and no set of frames without their order, says which of the
two it is.
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
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from config import unfinished
from locks import owned
from pt_dataset.datalist import write_list
from pt_dataset.video_list import Video

CLASSES = ["left", "right", "up", "down", "clockwise", "counter-clockwise", "growing", "shrinking"]
NUM_FRAMES, SIZE = 24, 64  # frames a video, pixels a side
NUM_VIDEOS = {"train": 640, "test": 160}
SPRITE = 96  # pixels of the picture that the moving shape is drawn on


def texture(rng: np.random.Generator, size: int, cells: int) -> Image.Image:
    """A cloud of random colors, (size, size): `cells` x `cells` random pixels blown up."""
    pixels = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)


def outline(rng: np.random.Generator) -> Image.Image:
    """The mask of a random shape, (SPRITE, SPRITE): a disc, or a polygon or star."""
    mask = Image.new("L", (SPRITE, SPRITE))
    draw, middle, radius = ImageDraw.Draw(mask), SPRITE / 2, SPRITE / 2 - 2
    corners, star = int(rng.integers(2, 7)), rng.random() < 0.5
    if corners == 2:
        draw.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=255)
        return mask
    points = []
    for i in range(2 * corners):
        angle = math.pi * i / corners
        r = radius * (0.55 if star else math.cos(math.pi / corners)) if i % 2 else radius
        points.append((middle + r * math.cos(angle), middle + r * math.sin(angle)))
    draw.polygon(points, fill=255)
    return mask


def motion(rng: np.random.Generator, kind: str) -> list[tuple[float, float, float, float]]:
    """Center (x, y), radius and angle of the shape in each frame, in pixels and radians."""
    t = np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2  # 0 in the middle of the video
    x, y = (SIZE / 2 + rng.uniform(-8, 8, 2))[:, None] + np.zeros(NUM_FRAMES)
    radius = np.full(NUM_FRAMES, rng.uniform(12, 22))
    angle = np.full(NUM_FRAMES, rng.uniform(0, 2 * math.pi))
    if kind == "left":
        x = x - t * rng.uniform(1.0, 2.0)
    elif kind == "up":
        y = y - t * rng.uniform(1.0, 2.0)
    elif kind == "clockwise":
        angle = angle + t * rng.uniform(0.08, 0.2)
    else:
        radius = radius * np.exp(t * rng.uniform(0.025, 0.05))
    return list(zip(x, y, radius, angle, strict=True))


def render(label: int, rng: np.random.Generator) -> list[Image.Image]:
    """The frames of one video of class `label`."""
    gray = Image.new("RGB", (SIZE, SIZE), "gray")
    background = Image.blend(texture(rng, SIZE, int(rng.integers(4, 10))), gray, 0.4)
    sprite = texture(rng, SPRITE, int(rng.integers(4, 8)))
    sprite.putalpha(outline(rng))
    frames = []
    for x, y, radius, angle in motion(rng, CLASSES[label - label % 2]):
        # Pillow wants the way back: from a pixel of the frame to one of the sprite
        scale = SPRITE / 2 / radius
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        matrix = (c, s, SPRITE / 2 - c * x - s * y, -s, c, SPRITE / 2 + s * x - c * y)
        how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        shape = sprite.transform((SIZE, SIZE), *how)
        frame = background.copy()
        frame.paste(shape, (0, 0), shape)
        frames.append(frame)
    return frames[::-1] if label % 2 else frames


def write_video(folder: Path, part: str, index: int) -> Video:
    """Writes one video as JPEG frames below `folder`; the same bytes whenever it is called."""
    label = index % len(CLASSES)
    # train and test from disjoint seeds
    rng = np.random.default_rng([list(NUM_VIDEOS).index(part), index])
    path = folder / "frames" / CLASSES[label] / f"{part}_{index:04d}"
    path.mkdir(parents=True)
    for i, frame in enumerate(render(label, rng)):
        frame.save(path / f"image_{i + 1:05d}.jpg", quality=90)
    return Video(str(path), label, CLASSES[label], NUM_FRAMES)


def write_demo(data_root: Path) -> Path:
    """Writes <data-root>/demo, whole or not at all, unless it is there; returns the folder."""
    folder = data_root / "demo"
    if not folder.exists():
        with owned(folder, wait=math.inf):  # runs that start together share one
            if not folder.exists():
                write_demo_to(folder)
    return folder


def write_demo_to(folder: Path) -> None:
    temporary = unfinished(folder)
    temporary.mkdir()
    # forked, as the loader's processes are: a spawned one would import main.py, all of torch;
    # Ctrl-C reaches all processes of a terminal, and is for this one
    at_ctrl_c = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    start = "fork" if hasattr(os, "fork") and sys.platform != "darwin" else "spawn"
    pool = ProcessPoolExecutor(mp_context=get_context(start), **at_ctrl_c)
    try:
        for part, num_videos in NUM_VIDEOS.items():
            write = partial(write_video, temporary, part)
            jobs = pool.map(write, range(num_videos), chunksize=16)
            videos = list(tqdm(jobs, f"writing demo {part}", num_videos, unit="video"))
            write_list(temporary / f"{part}list01.json", videos)
        (temporary / "classes.txt").write_text("\n".join(CLASSES) + "\n")
        temporary.rename(folder)
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(temporary, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root", type=Path, default=Path("videos_dataset"), help="folder of the data sets"
    )
    print(f"demo data set: {write_demo(parser.parse_args().data_root)}")


if __name__ == "__main__":
    main()
