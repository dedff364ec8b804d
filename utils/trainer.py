"""Training: the steps of an epoch, and everything that changes with a step."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from config import Optimization, Regularization, plural
from utils import distributed
from utils.averages import Averages, Sums, timed
from utils.loggers import progress_bar
from utils.optim import build_optimizer
from utils.options.class_weights import total_weight
from utils.options.ema import Ema
from utils.options.mixup import Mixup, draw_mixup
from utils.options.transfer import Transfer
from utils.results import duration
from utils.schedule import Schedule


def clip_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    regularization: Regularization,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of some clips, summed; `Trainer.backward` makes it the mean of a batch.

    Another loss goes here; other numbers that are logged go into averages.logged_numbers.

    Args:
        logits: (N, classes)
        labels: (N,)
        class_weights: (classes,), how many times a clip of each counts.
    """
    smoothing = regularization.label_smoothing
    if class_weights is None:
        return cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    # torch's own weights would make the smoothed part of a label that a rare class gets as large
    losses = cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return losses @ class_weights[labels]


class NonFiniteLoss(FloatingPointError):
    """The loss or a weight became infinite or not a number."""


class Trainer:
    """Weights, optimizer, averages and position of a run: what a checkpoint must hold to go on.

    With several processes, each has its own trainer, and all take every step together.

    Args:
        classifier: uint8 clips -> logits (utils.classifier.ClipClassifier, wrapped or not).
        model: the plain network inside it.
        averages: on the device of the network.
        faults: of the loader whose batches these are.
        precision: with "fp16" the gradients are scaled.
        micro_batch: clips whose activations are in memory at once, in each process.
        validation_steps: work of the validation after an epoch, in steps.
        frozen: modules that stay in evaluation.
        class_weights: of the loss, see `clip_loss`; on the device of the network.

    Attributes:
        epoch: epochs that are complete, with their validation.
        step: steps of the optimizer so far, those of the epoch in hand included.
    """

    def __init__(
        self,
        classifier: nn.Module,
        model: nn.Module,
        optimization: Optimization,
        regularization: Regularization,
        averages: Averages,
        faults: distributed.Faults,
        *,
        steps_per_epoch: int,
        precision: str,
        micro_batch: int,
        seed: int,
        validation_steps: float = 0,
        frozen: Sequence[nn.Module] = (),
        class_weights: torch.Tensor | None = None,
    ):
        self.classifier, self.model, self.frozen = classifier, model, frozen
        self.optimization, self.regularization = optimization, regularization
        self.averages, self.faults, self.class_weights = averages, faults, class_weights
        self.steps_per_epoch, self.micro_batch, self.seed = steps_per_epoch, micro_batch, seed
        self.validation_steps = validation_steps
        self.optimizer = build_optimizer(model, optimization)
        self.schedule = Schedule(self.optimizer, steps_per_epoch, optimization)
        self.ema = Ema(model, regularization.ema) if regularization.ema else None
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
        self.transfer = Transfer(averages.device) if averages.device.type == "cuda" else None
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.epoch = self.step = 0
        self.epoch_averages: dict[str, float] = {}  # once all steps of the epoch are done

    @property
    def done(self) -> int:
        """Steps of the epoch in hand so far."""
        return self.step - self.epoch * self.steps_per_epoch

    @property
    def steps_left(self) -> float:
        """Of the run, with the work of the validations between them."""
        epochs = self.optimization.epochs
        steps = epochs * self.steps_per_epoch - self.step
        return steps + (epochs - self.epoch) * self.validation_steps

    def steps(
        self, batches: Iterator[distributed.Batch], log_every: int
    ) -> Iterator[dict[str, float] | None]:
        """Trains on the batches of the epoch in hand that are left, and yields after each step.

        Between two of them the state may be saved. The device is not waited for at each step, so
        that a loss that is not finite is seen at the next logging step, or before a checkpoint.

        Args:
            batches: those of the epoch from number `done` on.

        Yields:
            Every `log_every` steps and after the epoch's last one the averages since the last time,
            with "step", steps of the run, and "epoch", such as 2.25; after the other steps None.

        Raises:
            NonFiniteLoss
        """
        self.to_training()
        if self.done == 0:
            self.averages.start_epoch()
            self.faults.found.clear()
        shared = distributed.sharing_faults(batches, self.faults)
        num_steps, done, shown = self.steps_per_epoch, self.done, {}
        bar = progress_bar(shared, f"epoch {self.epoch + 1}", num_steps, "step", done)
        with closing(shared), bar:
            for waited, (clips, labels, *_) in timed(bar):
                lr = self.train_batch(clips, labels, waited)
                metrics, left = None, num_steps - self.done
                # a rest of fewer steps joins the last ones, or its average would jump about
                due = left == 0 or (self.done % log_every == 0 and left >= log_every)
                if due and self.averages.enough_clips(min(log_every, num_steps)):
                    metrics = self.read(self.averages.recent) | {"lr": lr}
                    loss, top1 = metrics["train/loss"], metrics["train/top1"]
                    shown = {"loss": f"{loss:.3f}", "top1": f"{top1:.1f}"}
                    epoch = self.epoch + self.done / num_steps
                    metrics |= {"step": self.step, "epoch": epoch}
                    self.averages.start_recent()
                left = duration(self.averages.seconds_a_step() * self.steps_left / 3600)
                bar.set_postfix(shown | {"run": f"{left} left"}, refresh=metrics is not None)
                yield metrics
        # before the validation, which takes memory of its own; also where no step was left, and
        # none has set the rates that load_state_dict has reset
        lr = self.schedule.set_lr(self.step - 1)
        self.epoch_averages = self.read(self.averages.total) | {"lr": lr}

    def end_epoch(self, validation: dict[str, float]) -> dict[str, float]:
        """Counts the epoch in hand as complete; its averages and those of its `validation`."""
        self.schedule.losses.append(validation["val/loss"])
        self.epoch += 1
        return self.epoch_averages | validation | {"step": self.step, "epoch": self.epoch}

    def to_training(self) -> None:
        """The mode of all modules, which evaluation has changed."""
        self.classifier.train()
        for module in self.frozen:
            module.eval()

    def train_batch(self, clips: torch.Tensor, labels: torch.Tensor, waited: float = 0) -> float:
        """One step of the optimizer on the batch of all processes; its learning rate.

        Args:
            clips: uint8 (N, T, H, W, C), this process's share of the batch, which may be empty.
            waited: seconds for the batch, which belong to the time of the step.
        """
        began = time.perf_counter()
        if self.transfer:
            clips, labels = self.transfer.copy(clips, labels, waited=waited)
        shares = distributed.sizes(len(labels))  # clips that each process has
        lr, num_clips = self.schedule.set_lr(self.step), sum(shares)
        if num_clips:  # else all videos of the batch are bad, and the step passes without one
            joined = self.regularization.mixup or self.regularization.cutmix
            mixup = draw_mixup(self, clips, labels, shares) if joined else None
            total: int | torch.Tensor = num_clips
            if self.class_weights is not None:
                total = total_weight(self.class_weights, labels, mixup)
            self.optimizer.zero_grad()
            if len(shares) > 1:
                from utils.options import processes

                processes.seed_dropout(self.seed, self.step)
                if len(labels) == 0:
                    processes.take_part(self, clips, total)
            for part in equal_parts(len(labels), self.micro_batch):
                # DDP adds up the gradients of all processes during a backward pass. Once a step is
                # enough: until the last part they are added to this process's own.
                last = part.stop == len(labels)
                with nullcontext() if last else distributed.gradients_stay(self.classifier):
                    self.backward(self.forward(clips, labels, part, mixup), total)
            self.change_weights()
        self.step += 1
        if self.transfer:
            self.transfer.end_step()
        seconds = waited + time.perf_counter() - began
        data_time = 0 if self.transfer else waited  # the device knows better, see `wait`
        self.averages.add(clips=num_clips, steps=1, data_time=data_time, time=seconds)
        return lr

    def forward(
        self, clips: torch.Tensor, labels: torch.Tensor, part: slice, mixup: Mixup | None
    ) -> torch.Tensor:
        """The loss of the clips in `part`, summed; the averages get it, too."""
        inputs, targets = clips[part], labels[part]
        how = self.regularization, self.class_weights
        if mixup:
            inputs, others = mixup.blend(inputs, part)
            logits = self.classifier(inputs)
            loss = mixup.share * clip_loss(logits, targets, *how)
            loss = loss + (1 - mixup.share) * clip_loss(logits, others, *how)
        else:
            logits = self.classifier(inputs)
            loss = clip_loss(logits, targets, *how)
        self.averages.add_clips(logits, targets, loss)
        return loss

    def backward(self, loss_sum: torch.Tensor, total: int | torch.Tensor) -> None:
        """Adds to the gradients those of `loss_sum`, the part that some of `total` clips have.

        A sum divided by the number of all clips, or by their weight, not the mean of these: then
        parts and shares of any size add up to the mean of the whole batch. The processes average
        their gradients instead of adding them, which the factor makes up for.
        """
        self.scaler.scale(loss_sum * distributed.world_size() / total).backward()

    def change_weights(self) -> None:
        """A step of the optimizer along the gradients."""
        if self.optimization.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.optimization.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update()

    def wait(self) -> None:
        """For the device, whose time belongs to the steps that it is still working on."""
        if self.transfer:
            began = time.perf_counter()
            waits = self.transfer.wait()
            self.averages.add(time=time.perf_counter() - began, **waits)

    def read(self, sums: Sums) -> dict[str, float]:
        """The metrics of `sums`, after waiting for the device.

        Raises:
            NonFiniteLoss
        """
        self.wait()
        metrics = self.averages.metrics(sums)
        if not math.isfinite(metrics["train/loss"]):
            raise NonFiniteLoss(
                f"the loss is {metrics['train/loss']} at step {self.step}, or in one of "
                f"{plural(sums.counts['steps'], 'step')} up to it"
            )
        return metrics

    def check_finite(self) -> None:
        """Before the state is saved, so that no checkpoint is of no use.

        Raises:
            NonFiniteLoss
        """
        self.wait()
        loss = self.averages.names.index("loss")
        recent = distributed.all_reduce_sum(self.averages.recent.over_clips)[loss]
        values = [recent, *self.model.state_dict().values()]
        finite = [value.isfinite().all().to(self.averages.device) for value in values]
        if not torch.stack(finite).all():
            raise NonFiniteLoss(f"the loss is not finite, or a weight is not, at step {self.step}")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beside what the network was made for.

        All processes ask for it together, since the averages are of all; batch norm's statistics
        are the main one's.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() or None,
            "ema": self.ema.state_dict() if self.ema else None,
            "rng": rng_state(),
            "epoch": self.epoch,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "micro_batch": self.micro_batch,
            "averages": self.averages.state_dict(),
            "faults": self.faults.found,  # of the epoch in hand
        }


def equal_parts(count: int, most: int) -> list[slice]:
    """As few slices of `count` as have `most` each at most, all of one size or one more."""
    num_parts = -(-count // most)
    return [slice(i * count // num_parts, (i + 1) * count // num_parts) for i in range(num_parts)]


def rng_state() -> dict[str, Any]:
    """What dropout draws from; clips have generators of their own, keyed by epoch and index.

    Several processes of a run draw anew for each step instead.
    """
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized() and distributed.world_size() == 1:
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state
