"""The videos of the demo set: a shape that moves over a background."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pt_dataset.video_list import Video

CLASSES = ["left", "right", "up", "down", "clockwise", "counter-clockwise", "growing", "shrinking"]
NUM_FRAMES, SIZE = 24, 64  # frames a video, pixels a side
PARTS = ("train", "test")
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
    rng = np.random.default_rng([PARTS.index(part), index])
    path = folder / "frames" / CLASSES[label] / f"{part}_{index:04d}"
    path.mkdir(parents=True)
    for i, frame in enumerate(render(label, rng)):
        frame.save(path / f"image_{i + 1:05d}.jpg", quality=90)
    return Video(str(path), label, CLASSES[label], NUM_FRAMES)
