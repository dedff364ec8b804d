"""How many clips of a run the memory has room for, where that is not clear at once."""

import multiprocessing
import os
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pt_dataset.loader import Loader
from pt_dataset.processes import memory
from utils import distributed
from utils.memory import fit
from utils.run import Fit, Run, is_small, share_size

QUICK = 16 * 2**30  # bytes for `is_small`; on a CPU a step of more takes over ten seconds


def fit_training(run: Run, loader: Loader, typed: int | None) -> Fit:
    """How many clips go through the network at once in each process: `typed`, or as many as fit."""
    opts, share, kept = run.opts, share_size(run.opts), run.start.checkpoint.get("micro_batch")
    shape = run.preprocessing.network_input()
    if is_small(share, shape, min(free_bytes(run.device) / 2, QUICK)):
        return Fit(typed or min(kept or share, share))
    channels, frames, height, width = shape
    copies = {"sgd": 1, "adamw": 2}[opts.optimizer] + (opts.ema > 0)
    workers, ahead = loader.batches.num_workers, loader.batches.prefetch_factor or 0
    on_cpu = run.device.type == "cpu"
    load = fit.Load(
        clip_shape=(frames, height, width, channels),
        batch_size=opts.batch_size,
        share=share,
        batches=workers * ahead + memory.IN_USE if on_cpu else 2,
        others=of_loaders(run.model, workers, copies) if on_cpu else 0,
        copies=copies,
        mixup=opts.mixup > 0 or opts.cutmix > 0,
        before=kept,
        advise_twice=not (opts.checkpoint_activations or opts.compile or opts.sync_bn),
    )
    classifier = run.classifier
    unwrapped = classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
    network = unwrapped, run.model, load
    if on_cpu:
        found = Fit(*fit.fit_on_cpu(*network, typed=typed, free=free_bytes(run.device)))
    elif typed:
        found = Fit(typed)
    else:
        found = Fit(*fit.fit_on_gpu(*network, run.device, precision=run.precision))
    return replace(found, clips=-distributed.highest(-found.clips))


def of_loaders(model: nn.Module, workers: int, copies: int) -> float:
    """Bytes that the processes of a training's three loaders hold beside their batches, to its end.

    Forked ones keep what the main process had then and has changed since: those of the training the
    weights, those of the validation also the gradients and the `copies`; those of the test list see
    no step.
    """
    start = multiprocessing.get_start_method()
    held = 3 * workers * memory.PROCESS[start]
    if start == "fork" and workers:
        weights = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        held += 3 * memory.CHANGED + (3 + copies) * weights
    return held


def views_that_fit(
    model: nn.Module, shape: tuple[int, ...], most: int, device: torch.device, workers: int
) -> int:
    """How many views (C, T, H, W) a network can be asked about at once, `most` at most."""
    if is_small(most, shape) or is_small(most, shape, free_bytes(device) / 2):
        return most
    batches = workers * memory.AHEAD + memory.IN_USE if device.type == "cpu" else 1
    return fit.fit_views(model, shape, most, free_bytes(device), batches)


def free_bytes(device: torch.device) -> float:
    """For this process, where several share a machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.free_memory() / int(os.environ.get("LOCAL_WORLD_SIZE", 1))
