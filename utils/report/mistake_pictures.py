"""The frames of mistakes as pictures: for a look at them, and for what moves in a report."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.mistakes import Mistakes

SHOWN, COLUMNS = 4, 2  # in the picture: frames of each clip, clips beside each other
SIDE, GAP, LINE = 96, 4, 18  # pixels: of a frame, between two, of each of the two lines above
FILM_SIDE = 128  # pixels of a frame that is to move


def picture(mistakes: Mistakes) -> Image.Image:
    """Some frames of each mistake in the order of time, under what it is and was taken for."""
    width, height = SHOWN * (SIDE + GAP) + 2 * GAP, SIDE + 2 * (LINE + GAP)
    rows = -(-len(mistakes.surest) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    draw, font, small = ImageDraw.Draw(canvas), *map(ImageFont.load_default, (14, 11))
    for i, (mistake, facts) in enumerate(zip(mistakes.surest, mistakes.facts(), strict=True)):
        x, y = i % COLUMNS * width + GAP, i // COLUMNS * height + 2
        score = f"({100 * mistake.score:.0f} %)"
        words = f"{facts['class_name']}, taken for {facts['taken_for']} {score}"
        draw.text((x, y), words, "black", font)
        name, room = mistake.name, width - 2 * GAP
        while draw.textlength(name, small) > room:  # its end tells more than its beginning
            name = f"...{name[4:]}"
        draw.text((x, y + LINE), name, "dimgray", small)
        chosen = np.linspace(0, len(mistake.frames) - 1, min(SHOWN, len(mistake.frames)))
        for k, frame in enumerate(mistake.frames[chosen.astype(int)]):
            canvas.paste(thumbnail(frame, SIDE), (x + k * (SIDE + GAP), y + 2 * LINE))
    return canvas


def films(mistakes: Mistakes) -> Image.Image:
    """All kept frames as squares: a row for each mistake, from left to right in time."""
    films = [[thumbnail(frame, FILM_SIDE) for frame in m.frames] for m in mistakes.surest]
    sheet = Image.new("RGB", (FILM_SIDE * len(films[0]), FILM_SIDE * len(films)))
    for row, film in enumerate(films):
        for column, frame in enumerate(film):
            sheet.paste(frame, (FILM_SIDE * column, FILM_SIDE * row))
    return sheet


def thumbnail(frame: np.ndarray, side: int) -> Image.Image:
    """A frame uint8 (S, S, C), `side` pixels large; of flow its first field, u, in gray."""
    image = Image.fromarray(frame if frame.shape[2] == 3 else frame[..., 0].copy())
    return image.resize((side, side), Image.Resampling.BILINEAR)
