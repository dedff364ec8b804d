"""Training: one epoch of steps, and everything that changes with a step."""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm

from utils import checkpoint, distributed
from utils.ema import Ema
from utils.freeze import keep_in_evaluation
from utils.memory import peak_memory_gb
from utils.mixup import Blend, draw_blend
from utils.schedule import Schedule


class NonFiniteLoss(FloatingPointError):
    """The loss or a weight became infinite or not a number."""


class Averages:
    """Running sums of one epoch, or of the steps since they were last read.

    Those of the loss and of hits stay on the device: reading them would wait for it. They are of
    this process's clips, and read for all processes at once; clips are counted for all, and times
    are this process's own.
    """

    SUMS = ("loss", "top1", "top5")  # over clips, on the device
    COUNTS = ("clips", "steps", "data_time", "copy_time", "time")  # here; times in seconds

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(len(self.SUMS), dtype=torch.float64, device=device)
        self.clips = self.steps = 0
        self.data_time = self.copy_time = self.time = 0.0

    def add_step(self, data_time: float) -> None:
        self.steps += 1
        self.data_time += data_time

    def metrics(self, num_classes: int, clip_len: int) -> dict[str, float]:
        """Loss and accuracies over clips, times in seconds a step. Waits for the device."""
        loss, top1, top5 = (distributed.all_reduce_sum(self.sums) / self.clips).tolist()
        metrics = {"train/loss": loss, "train/top1": 100 * top1}
        if num_classes > 5:
            metrics["train/top5"] = 100 * top5
        return metrics | {
            "time/data": self.data_time / self.steps,
            "time/copy": self.copy_time / self.steps,
            "time/compute": (self.time - self.data_time - self.copy_time) / self.steps,
            "time/step": self.time / self.steps,
            "clips_per_s": self.clips / self.time,
            "frames_per_s": self.clips * clip_len / self.time,
        }

    def state_dict(self) -> dict:
        sums = distributed.all_reduce_sum(self.sums).cpu()
        return {"sums": sums} | {name: getattr(self, name) for name in self.COUNTS}

    def load_state_dict(self, state: dict) -> None:
        if distributed.is_main():
            self.sums.copy_(state["sums"])
        for name in self.COUNTS:
            setattr(self, name, state[name])


class Trainer:
    """Weights, optimizer, averages and position of a run: what a checkpoint must hold to go on.

    Of a run of several processes each has a trainer, and all of them take every step together.

    Args:
        classifier: uint8 clips -> logits (utils.normalize.ClipClassifier, wrapped or not).
        model: the plain network inside it.
        precision: with "fp16" the gradients are scaled.
        num_classes: of the logits.
        clip_len: frames of a clip.
        micro_batch: clips whose activations are in memory at once, in each process.
        clip_grad: longest gradient of a step; 0: any.
        frozen: modules that stay in evaluation.
        clips_per_s_at_peak: what arithmetic at the device's peak would give, where that is known.

    Attributes:
        epoch: epochs that are complete, with their validation.
        step: steps of the optimizer so far, those of the epoch in hand included.
    """

    def __init__(
        self,
        classifier: nn.Module,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        device: torch.device,
        precision: str,
        num_classes: int,
        clip_len: int,
        micro_batch: int,
        clip_grad: float = 0,
        label_smoothing: float = 0,
        mixup: float = 0,
        seed: int = 0,
        ema: Ema | None = None,
        frozen: list[nn.Module] = (),
        clips_per_s_at_peak: float | None = None,
    ):
        self.classifier, self.model = classifier, model
        self.optimizer, self.schedule, self.ema, self.frozen = optimizer, schedule, ema, frozen
        self.device, self.micro_batch, self.clip_grad = device, micro_batch, clip_grad
        self.num_classes, self.clip_len = num_classes, clip_len
        self.label_smoothing, self.mixup, self.seed = label_smoothing, mixup, seed
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.clips_per_s_at_peak = clips_per_s_at_peak
        self.epoch = self.step = 0
        self.total, self.recent = Averages(device), Averages(device)
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.copies: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []  # not yet timed

    def train_epoch(
        self,
        loader: DataLoader,
        *,
        log_every: int,
        on_log: Callable[[dict[str, float], float], None],
        check: Callable[[], None],
    ) -> dict[str, float]:
        """Trains on the batches of the epoch in hand that are left; the averages of all of it.

        The device is not waited for at each step, so that a loss that is not finite is seen at the
        next logging step, or before the next checkpoint.

        Args:
            log_every: steps between two calls of `on_log`.
            on_log: gets the averages since its last call, and the time in epochs, such as 2.25.
            check: called between two steps; may save the state, and raises if the run is to stop.

        Raises:
            NonFiniteLoss
        """
        self.to_training()
        done, num_steps = self.step - self.epoch * len(loader), len(loader)
        if done == 0:
            self.total, self.recent = Averages(self.device), Averages(self.device)
        loader.batch_sampler.epoch, loader.batch_sampler.start = self.epoch, done
        with tqdm(
            total=num_steps,
            initial=done,
            desc=f"epoch {self.epoch + 1}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not distributed.is_main(),
        ) as bar:
            batches = iter(loader if done < num_steps else ())
            while done < num_steps:
                lr = self.train_next(batches)
                done += 1
                if (done % log_every == 0 or done == num_steps) and self.recent.clips:
                    metrics = self.read(self.recent) | {"lr": lr}
                    on_log(metrics, self.epoch + done / num_steps)
                    bar.set_postfix(
                        loss=f"{metrics['train/loss']:.3f}", top1=f"{metrics['train/top1']:.1f}"
                    )
                    self.recent = Averages(self.device)
                bar.update()
                check()
        return self.read(self.total) | {"lr": self.schedule.set_lr(self.step - 1)}

    def to_training(self) -> None:
        """The mode of all modules, which evaluation has changed."""
        self.classifier.train()
        keep_in_evaluation(self.frozen)

    def train_next(self, batches: Iterator[tuple[torch.Tensor, ...]]) -> float:
        """Waits for a batch and trains on it; returns the learning rate."""
        started = time.perf_counter()
        clips, labels, _ = next(batches)
        data_time = time.perf_counter() - started
        lr = self.train_batch(clips, labels)
        self.add_times(time.perf_counter() - started)
        for averages in (self.total, self.recent):
            averages.add_step(data_time)
        return lr

    def train_batch(self, clips: torch.Tensor, labels: torch.Tensor) -> float:
        """One step of the optimizer on the global batch; its learning rate.

        The batch goes through in equal parts of `micro_batch` clips at most.

        Args:
            clips: uint8 (N, T, H, W, C), this process's share of the batch, which may be empty.
        """
        clips, labels = self.copy(clips, labels)
        num_own, of_all = len(labels), distributed.sizes(len(labels))
        n, first, blend = sum(of_all), 0, None
        if not n:  # all of its videos are bad
            self.step += 1
            return self.schedule.set_lr(self.step - 1)
        if self.mixup:  # a partner may be in the share of another process
            blend = draw_blend(self.mixup, n, self.seed, self.step)
            first = sum(of_all[: distributed.rank()])
            clips, labels = (distributed.concatenated(share, of_all) for share in (clips, labels))
        if distributed.world_size() > 1:
            self.draw_anew()
        self.optimizer.zero_grad(set_to_none=True)
        num_parts = -(-num_own // self.micro_batch)
        for i in range(num_parts):
            part = slice(*(first + j * num_own // num_parts for j in (i, i + 1)))
            last = i == num_parts - 1  # after which the processes add up their gradients
            with contextlib.nullcontext() if last else distributed.gradients_stay(self.classifier):
                loss_sum = self.forward(clips, labels, part, blend)
                self.backward(loss_sum, n)
        if not num_own:
            self.take_part(clips, n)
        for averages in (self.total, self.recent):
            averages.clips += n
        lr = self.schedule.set_lr(self.step)
        if self.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update()
        self.step += 1
        return lr

    def backward(self, loss_sum: torch.Tensor, n: int) -> None:
        """Of a part of `n` clips.

        The sum is divided by the weight of the whole batch, so that parts of any size add up to its
        mean; and the processes average their gradients, which are to be added.
        """
        self.scaler.scale(loss_sum * distributed.world_size() / n).backward()

    def take_part(self, clips: torch.Tensor, n: int) -> None:
        """A gradient of zero from a process without a clip in this batch: the others wait for it.

        In evaluation, so that batch norm does not see the clip that stands in.
        """
        self.classifier.eval()
        logits = self.classifier(clips.new_zeros(1, *clips.shape[1:]))
        self.backward(0 * logits.sum(), n)
        self.to_training()

    def draw_anew(self) -> None:
        """Dropout of its own for each process and step, and the same one after a resume."""
        key = f"{self.seed} dropout {self.step} {distributed.rank()}"
        torch.manual_seed(random.Random(key).getrandbits(63))

    def copy(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The tensors on the device, and a note of how long it waited for them.

        They travel beside the computing, since the host is ahead of the device by a step or so; and
        from pinned memory, where the loader has put its batches, as others would hold up the host.
        """
        if self.device.type != "cuda":
            return list(tensors)
        with torch.cuda.stream(self.copying):
            copies = [t.pin_memory().to(self.device, non_blocking=True) for t in tensors]
        computing = torch.cuda.current_stream(self.device)
        events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        events[0].record(computing)
        computing.wait_stream(self.copying)
        events[1].record(computing)
        self.copies.append(events)
        for copy in copies:
            copy.record_stream(computing)  # or its memory may be used again too early
        return copies

    def forward(
        self, clips: torch.Tensor, labels: torch.Tensor, part: slice, blend: Blend | None
    ) -> torch.Tensor:
        """The loss of the clips in `part`, summed; blended here: floats of the batch need room."""
        inputs, targets = clips[part], labels[part]
        if blend:
            (partners,) = self.copy(blend.partners[part])
            inputs = torch.lerp(clips[partners].float(), inputs.float(), blend.share)
        logits = self.classifier(inputs)
        loss = self.loss_of(logits, targets)
        if blend:
            loss = blend.share * loss + (1 - blend.share) * self.loss_of(logits, labels[partners])
        hits = logits.detach().topk(min(5, self.num_classes), dim=1).indices == targets[:, None]
        sums = torch.stack([loss.detach().double(), hits[:, 0].sum(), hits.sum()])
        for averages in (self.total, self.recent):
            averages.sums += sums
        return loss

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing)

    def add_times(self, seconds: float) -> None:
        for averages in (self.total, self.recent):
            averages.time += seconds

    def wait(self) -> None:
        """For the device, whose time belongs to the steps that it is still working on."""
        if self.device.type == "cuda":
            started = time.perf_counter()
            torch.cuda.synchronize(self.device)
            self.add_times(time.perf_counter() - started)
            copy_time = sum(start.elapsed_time(end) for start, end in self.copies) / 1000
            self.copies.clear()
            for averages in (self.total, self.recent):
                averages.copy_time += copy_time

    def read(self, averages: Averages) -> dict[str, float]:
        """The metrics of `averages`, after waiting for the device.

        Raises:
            NonFiniteLoss
        """
        self.wait()
        metrics = averages.metrics(self.num_classes, self.clip_len)
        if not math.isfinite(metrics["train/loss"]):
            raise NonFiniteLoss(
                f"the loss is {metrics['train/loss']} at step {self.step}, or in one of the "
                f"{averages.steps} steps up to it"
            )
        if self.clips_per_s_at_peak:
            metrics["utilization"] = 100 * metrics["clips_per_s"] / self.clips_per_s_at_peak
        return metrics | {"memory_gb": peak_memory_gb(self.device)}

    def check_finite(self) -> None:
        """Before the state is saved, so that no checkpoint is of no use.

        Raises:
            NonFiniteLoss
        """
        self.wait()
        values = [distributed.all_reduce_sum(self.recent.sums), *self.model.state_dict().values()]
        if not torch.stack([value.isfinite().all() for value in values]).all():
            raise NonFiniteLoss(f"the loss is not finite, or a weight is not, at step {self.step}")

    def state_dict(self) -> dict:
        """What a checkpoint must hold beside the network and what it was made for.

        All processes ask for it together, since the averages are of all; batch norm's statistics
        are the main one's.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() or None,
            "ema": self.ema.state_dict() if self.ema else None,
            "rng": checkpoint.rng_state(),
            "epoch": self.epoch,
            "step": self.step,
            "averages": [self.total.state_dict(), self.recent.state_dict()],
        }

    def load_state_dict(self, state: dict) -> None:
        """All of it but the network's own weights, which are there already."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["scheduler"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if state["ema"] and self.ema:
            self.ema.load_state_dict(state["ema"])
        checkpoint.set_rng_state(state["rng"])
        self.epoch, self.step = state["epoch"], state["step"]
        for averages, saved in zip((self.total, self.recent), state["averages"], strict=True):
            averages.load_state_dict(saved)
