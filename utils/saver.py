"""When the checkpoints of a run are written, and what is in them."""

import time
from pathlib import Path
from typing import Any

from utils import checkpoint, distributed
from utils.trainer import Trainer


class Saver:
    """Writes last.pth and best.pth, none that is of no use.

    All processes of a run save together, and the main one writes.

    Args:
        trainer: whose state it is.
        folder: of the run.
        facts: what the network was made for: the keys of a checkpoint that training does not move.
        chosen_on: the list whose accuracy decides which weights are the best, in words.
        best: the highest validation accuracy so far, in percent.
        minutes: how old the last one may become; 0: any age.
        steps: how many steps may lie between two; 0: any number.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        facts: dict[str, Any],
        *,
        chosen_on: str,
        best: float = -1,
        minutes: float = 0,
        steps: int = 0,
    ):
        self.trainer, self.folder, self.facts = trainer, folder, facts
        self.chosen_on, self.best = chosen_on, best
        self.minutes, self.steps = minutes, steps
        self.saved_at = time.monotonic()

    def save_first(self) -> None:
        """From now on there is always a checkpoint to go on from."""
        if not distributed.from_main((self.folder / "last.pth").exists):
            self.save("last.pth")

    def save_if_due(self) -> None:
        """After a step."""
        old = self.minutes > 0 and time.monotonic() - self.saved_at > 60 * self.minutes
        # the clocks of the processes differ: all save where one of them finds it due
        if distributed.highest(old) or (self.steps and self.trainer.step % self.steps == 0):
            self.save("last.pth")

    def save_epoch(self, metrics: dict[str, float]) -> None:
        """After an epoch with its validation: the best weights so far, and where the run stands."""
        if metrics["val/top1"] > self.best:
            self.best = metrics["val/top1"]
            self.save("best.pth", self.chosen_on)
        self.save("last.pth")  # last: what a kill before it leaves out is done again

    def save(self, name: str, chosen_on: str | None = None) -> None:
        """Raises UserError if it cannot be written, NonFiniteLoss if it would be of no use."""
        self.trainer.check_finite()
        state = self.state(chosen_on)
        if distributed.is_main():
            checkpoint.save(state, self.folder / name)
        self.saved_at = time.monotonic()

    def state(self, chosen_on: str | None = None) -> dict[str, Any]:
        """All that a checkpoint holds.

        Args:
            chosen_on: the list whose accuracy decided for these weights; None: none did.
        """
        if self.trainer.schedule.settings.schedule == "plateau":
            chosen_on = self.chosen_on  # its loss decided over the learning rate
        return self.trainer.state_dict() | self.facts | {"chosen_on": chosen_on}
