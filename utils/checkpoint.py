"""Checkpoints: dicts that torch.load(weights_only=True) reads, written whole or not at all.

utils/resume/checkpoint_file.py reads them back.
"""

import io
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from config import UserError, whole
from utils import distributed
from utils.trainer import Trainer

KEYS = (  # all that a checkpoint holds
    "arch",
    "arch_args",  # of build_model
    "class_names",  # in the order of the labels
    "preprocessing",  # config.Preprocessing as a dict: everything between a file and the network
    "evaluation",  # config.Evaluation.plain(); None: of an older run, which did not keep it
    "model",  # the network's state dict, of the last step
    "ema",  # weights averaged over the steps, "average", as in "model"; None: not wanted
    "optimizer",
    "scheduler",
    "scaler",  # of the loss in fp16; None in other precisions
    "rng",  # what dropout draws from
    "epoch",  # epochs that are done
    "step",  # steps that are done
    "averages",  # of the epoch in hand: since it began, and since they were last logged
    "faults",  # of the epoch in hand: what was wrong with videos, by their index
    "steps_per_epoch",
    "precision",
    "micro_batch",  # clips that go through the network at once
    "chosen_on",  # the list whose accuracy decided for these weights; None: none did
    "choices",  # the others that looked at a list, in sentences, also of runs that it started from
    "origin",  # what the run started from: "from scratch", public weights, a checkpoint
    "action",  # of the run, as in opts.py: "train" or "head_only"
    "data",  # its lists: pt_dataset.identity.identify
    "trained_on",  # the names of all videos that the weights have seen, see pt_dataset/identity.py
)


def save(state: dict[str, Any], path: Path) -> None:
    """Replaces the checkpoint at `path`.

    Raises:
        UserError: it cannot be written, such as on a full disk; the old one is still there.
    """
    # in memory first: torch's writer hides the reason where a write to the disk fails
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with whole(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        kept = "the one before it is kept" if path.exists() else "there is none before it"
        raise UserError(
            f"the checkpoint {path} cannot be written ({error.strerror}); {kept}; make room there "
            "and go on with --resume"
        ) from None


class Saver:
    """Writes last.pth and best.pth, none that is of no use.

    All processes of a run save together, and the main one writes.

    Args:
        facts: what the network was made for: the keys of a checkpoint that training does not move.
        chosen_on: the list whose accuracy decides which weights are the best, in words.
        validated: the validation accuracies of all epochs so far, in percent.
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
        validated: Sequence[float] = (),
        minutes: float = 0,
        steps: int = 0,
    ):
        self.trainer, self.folder, self.facts = trainer, folder, facts
        self.chosen_on, self.best = chosen_on, max(validated, default=-1)
        # epochs since then
        self.waited = len(validated) - 1 - validated.index(self.best) if validated else 0
        self.minutes, self.steps = minutes, steps
        self.saved_at = time.monotonic()

    def epochs_left(self, epochs: int, patience: int) -> Iterable[int]:
        """Those of all `epochs` that are still to be done, counted from 0."""
        left = range(self.trainer.epoch, epochs)
        if not patience:
            return left
        from utils.options.patience import epochs_with_patience

        return epochs_with_patience(left, self, patience)

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
        self.waited += 1
        if metrics["val/top1"] > self.best:
            self.best, self.waited = metrics["val/top1"], 0
            self.save("best.pth", self.chosen_on)
        self.save("last.pth")  # last: what a kill before it leaves out is done again

    def save(self, name: str, chosen_on: str | None = None) -> None:
        """Raises UserError if it cannot be written, NonFiniteLoss if it would be of no use."""
        self.trainer.check_finite()
        state = self.state(chosen_on)
        if distributed.is_main():
            save(state, self.folder / name)
        self.saved_at = time.monotonic()

    def state(self, chosen_on: str | None = None) -> dict[str, Any]:
        """All that a checkpoint holds; see KEYS for `chosen_on`."""
        return self.trainer.state_dict() | self.facts | {"chosen_on": chosen_on}
