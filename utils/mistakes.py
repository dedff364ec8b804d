"""What a validation gets wrong: which classes are taken for which, and a look at some videos."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from utils import distributed
from utils.evaluator import ScoredBatch

NUM_CLIPS, NUM_FRAMES, COLUMNS = 6, 4, 2  # of the picture
SIDE, GAP, LINE = 96, 4, 20  # pixels: of a frame, between two, of the words above


class Mistake(NamedTuple):
    """A video that was taken for another class."""

    score: float  # of the wrong class
    label: int
    predicted: int
    frames: np.ndarray  # uint8 (F, S, S, C)


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

    def watch(self, batches: Iterable[ScoredBatch]) -> Iterator[ScoredBatch]:
        """The same batches, after a look at each."""
        for batch in batches:
            self.add(batch.views, batch.scores, batch.labels)
            yield batch

    def add(self, views: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> None:
        """`views` uint8 (N, V, T, S, S, C), of which the first is shown; `scores` (N, classes)."""
        best, predicted = scores.max(dim=1)
        np.add.at(self.confusion, (labels.numpy(), predicted.numpy()), 1)
        shown = torch.linspace(0, views.shape[2] - 1, min(NUM_FRAMES, views.shape[2])).long()
        rows = zip(best.tolist(), labels.tolist(), predicted.tolist(), views[:, 0], strict=True)
        for score, label, taken_for, frames in rows:
            if label != taken_for:
                self.surest.append(Mistake(score, label, taken_for, frames[shown].numpy()))
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

    def picture(self) -> Image.Image:
        """Some frames of each mistake in the order of time, under what it is and was taken for."""
        width, height = NUM_FRAMES * (SIDE + GAP) + 2 * GAP, SIDE + LINE + 2 * GAP
        rows = -(-len(self.surest) // COLUMNS)
        canvas = Image.new("RGB", (COLUMNS * width, rows * height), "white")
        draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
        for i, mistake in enumerate(self.surest):
            x, y = i % COLUMNS * width + GAP, i // COLUMNS * height
            true, taken_for = (self.class_names[k] for k in (mistake.label, mistake.predicted))
            words = f"{true}, taken for {taken_for} ({100 * mistake.score:.0f} %)"
            draw.text((x, y + 2), words, "black", font)
            for k, frame in enumerate(mistake.frames):
                canvas.paste(thumbnail(frame), (x + k * (SIDE + GAP), y + LINE))
        return canvas


def thumbnail(frame: np.ndarray) -> Image.Image:
    """A frame uint8 (S, S, C) in the size of the picture; of flow its first field, u, in gray."""
    image = Image.fromarray(frame if frame.shape[2] == 3 else frame[..., 0].copy())
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
