"""What a validation gets wrong: which classes are taken for which, and a look at some videos."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from utils import distributed
from utils.evaluator import ScoredBatch

NUM_CLIPS, NUM_FRAMES = 6, 16  # that are kept
SHOWN, COLUMNS = 4, 2  # in the picture: frames of each clip, clips beside each other
SIDE, GAP, LINE = 96, 4, 18  # pixels: of a frame, between two, of each of the two lines above
FILM_SIDE = 128  # pixels of a frame that is to move


class Mistake(NamedTuple):
    """A video that was taken for another class."""

    score: float  # of the wrong class
    label: int
    predicted: int
    name: str  # of the video: its path
    frames: np.ndarray  # uint8 (F, S, S, C), spread over the clip


class Mistakes:
    """Watches the batches of a validation and keeps a few frames of a few videos.

    Attributes:
        confusion: (classes, classes), videos of each class in a row by what they were taken for.
        surest: the mistakes that the network was most sure of, which tell more than the first ones:
            those of a list in order are all of one class.
    """

    def __init__(self, class_names: list[str]):
        self.class_names = class_names
        self.confusion = np.zeros((len(class_names),) * 2, dtype=np.int64)
        self.surest: list[Mistake] = []

    def watch(self, batches: Iterable[ScoredBatch], names: Sequence[str]) -> Iterator[ScoredBatch]:
        """The same batches, after a look at each; `names` are of all videos of the list."""
        for batch in batches:
            own = [names[i] for i in batch.indices.tolist()]
            self.add(batch.views, batch.scores, batch.labels, own)
            yield batch

    def add(
        self, views: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, names: list[str]
    ) -> None:
        """`views` uint8 (N, V, T, S, S, C), of which the first is shown; `scores` (N, classes)."""
        best, predicted = scores.max(dim=1)
        np.add.at(self.confusion, (labels.numpy(), predicted.numpy()), 1)
        shown = torch.linspace(0, views.shape[2] - 1, min(NUM_FRAMES, views.shape[2])).long()
        # nor is a network sure of anything that has diverged
        wrong = ((predicted != labels) & best.isfinite()).nonzero().flatten()
        for i in wrong[best[wrong].argsort(descending=True, stable=True)][:NUM_CLIPS].tolist():
            frames = views[i, 0, shown].numpy()  # a copy of its own
            facts = best[i].item(), int(labels[i]), int(predicted[i]), names[i]
            self.surest.append(Mistake(*facts, frames))
        self._keep_surest()

    def gathered(self) -> "Mistakes":
        """Those of all processes of a run, each of which sees a share of the list."""
        whole = Mistakes(self.class_names)
        for part in distributed.gather(self):
            whole.confusion += part.confusion
            whole.surest += part.surest
        whole._keep_surest()
        return whole

    def _keep_surest(self) -> None:
        self.surest = sorted(self.surest, key=lambda mistake: -mistake.score)[:NUM_CLIPS]

    def facts(self) -> list[dict[str, str | float]]:
        """What validation.json says of each mistake, see utils.loggers.KnownMistake."""
        names = self.class_names
        return [
            {
                "path": mistake.name,
                "class_name": names[mistake.label],
                "taken_for": names[mistake.predicted],
                "score": mistake.score,
            }
            for mistake in self.surest
        ]

    def picture(self) -> Image.Image:
        """Some frames of each mistake in the order of time, under what it is and was taken for."""
        width, height = SHOWN * (SIDE + GAP) + 2 * GAP, SIDE + 2 * (LINE + GAP)
        rows = -(-len(self.surest) // COLUMNS)
        canvas = Image.new("RGB", (COLUMNS * width, rows * height), "white")
        draw, font, small = ImageDraw.Draw(canvas), *map(ImageFont.load_default, (14, 11))
        for i, (mistake, facts) in enumerate(zip(self.surest, self.facts(), strict=True)):
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

    def films(self) -> Image.Image:
        """All kept frames as squares: a row for each mistake, from left to right in time."""
        films = [[thumbnail(frame, FILM_SIDE) for frame in m.frames] for m in self.surest]
        sheet = Image.new("RGB", (FILM_SIDE * len(films[0]), FILM_SIDE * len(films)))
        for row, film in enumerate(films):
            for column, frame in enumerate(film):
                sheet.paste(frame, (FILM_SIDE * column, FILM_SIDE * row))
        return sheet


def thumbnail(frame: np.ndarray, side: int) -> Image.Image:
    """A frame uint8 (S, S, C), `side` pixels large; of flow its first field, u, in gray."""
    image = Image.fromarray(frame if frame.shape[2] == 3 else frame[..., 0].copy())
    return image.resize((side, side), Image.Resampling.BILINEAR)
