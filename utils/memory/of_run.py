"""How many clips of a run the memory has room for, where that is not clear at once."""

import math
import multiprocessing
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pt_dataset.clip_dataset import Clips
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
    channels, frames, height, width = shape
    copies = {"sgd": 1, "adamw": 2}[opts.optimizer] + (opts.ema > 0)
    workers, ahead = loader.batches.num_workers, loader.batches.prefetch_factor or 0
    on_cpu, num_processes = run.device.type == "cpu", distributed.world_size()
    mixup = opts.mixup > 0 or opts.cutmix > 0
    whole = num_processes if mixup and num_processes > 1 else 0  # each has all shares then
    load = fit.Load(
        clip_shape=(frames, height, width, channels),
        batch_size=opts.batch_size,
        share=share,
        batches=workers * ahead + memory.IN_USE + whole if on_cpu else 2,
        others=of_loaders(run.model, workers, copies) if on_cpu else 0,
        copies=copies,
        mixup=mixup,
        before=kept,
        advise_twice=not (opts.checkpoint_activations or opts.compile or opts.sync_bn),
    )
    room = free_bytes(run.device) / 2 - load.bytes_beside(run.model)
    if is_small(share, shape, min(room, QUICK)):
        return Fit(typed or min(kept or share, share))
    classifier = run.classifier
    unwrapped = classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
    network = unwrapped, run.model, load
    if on_cpu:
        memory.give_freed_memory_back(from_now_on=True)
        how = {"precision": run.precision, "typed": typed, "free": free_bytes(run.device)}
        found = Fit(*fit.fit_on_cpu(*network, **how))
    elif typed:
        found = Fit(typed)
    else:
        found = Fit(*fit.fit_on_gpu(*network, run.device, precision=run.precision))
    return replace(found, clips=-distributed.highest(-found.clips))


def of_loaders(model: nn.Module, workers: int, copies: int) -> float:
    """Bytes that the processes of a training's three loaders hold beside their batches, to its end.

    Forked ones keep the weights that the main process had then and has changed since; those of the
    validation its gradients and `copies`, too; those of the test list see no step.
    """
    weights = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    forked = workers and multiprocessing.get_start_method() == "fork"
    return 3 * of_processes(workers) + (3 + copies) * weights * bool(forked)


def of_processes(workers: int) -> float:
    """The same of one loader, where no weights change."""
    own = memory.PROCESS[multiprocessing.get_start_method()]
    return memory.CHANGED + workers * own if workers else 0


def views_that_fit(
    model: nn.Module,
    shape: tuple[int, ...],
    most: int,
    device: torch.device,
    workers: int,
    together: int = 1,
    least: int = 1,
    shorter: str = "a smaller --clip-len or --crop-size, or of segments fewer --views",
) -> int:
    """How many views (C, T, H, W) a network can be asked about at once, `most` at most.

    Args:
        together: views that are read at once, however few the network is asked about.
        least: those that are whatever is typed.
        shorter: what to type where the network alone needs too much.
    """
    free, processes, batches = free_bytes(device), 0.0, 1
    if device.type == "cpu":
        processes = of_processes(workers)
        batches = memory.most_in_memory(workers, together * math.prod(shape))
    if is_small(most, shape, (free - processes) / 2 - batches * together * math.prod(shape)):
        return most
    if device.type == "cpu":
        memory.give_freed_memory_back(from_now_on=True)
    how = processes, batches, together, least, shorter
    return fit.fit_views(model, shape, most, free, *how)


def check_whole_videos(run: Run, clips: Clips, crops: int) -> None:
    """Refuses videos that do not fit on a CPU, where the system would end the process."""
    if run.device.type == "cpu":
        shape = clips.clip.network_input()
        channels, frames, *size = shape
        frames = frames * clips.sample_bytes() // crops // math.prod(shape)
        shorter = f"--views 10x1: all {frames} frames of the longest video are one clip"
        how = run.device, run.opts.workers, crops
        views_that_fit(run.model, (channels, frames, *size), 1, *how, shorter=shorter)


def free_bytes(device: torch.device) -> float:
    """For this process, where several share a machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.free_memory() / memory.processes_here()
