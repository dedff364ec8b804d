"""What a validation gets wrong: which classes are taken for which, and a look at some videos."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from utils import distributed
from utils.evaluator import ScoredBatch

NUM_CLIPS, NUM_FRAMES = 6, 16  # that are kept


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
        """What validation.json says of each mistake, see live_page/run_files.py."""
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
