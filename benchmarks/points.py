"""One point of a curve of growth.py: a piece of work of some size, in a process that is new to it.

That of a training step is models.step_cost.
"""

import itertools
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from benchmarks.apart import clock, megabytes_since, peak_megabytes, private_megabytes, together
from benchmarks.models import SMALLEST
from config import Augmentation, DatasetSpec, Loading, Optimization, Preprocessing, Regularization
from models import build_model
from pt_dataset.datalist import read_list
from pt_dataset.faults import Faults
from pt_dataset.loader import train_loader
from pt_dataset.video_lists import VideoLists, check_paths
from utils import distributed
from utils.averages import Averages
from utils.classifier import ClipClassifier, Normalize
from utils.evaluator import score_batches, score_videos
from utils.trainer import Trainer

CPU = torch.device("cpu")
FOLDERS = 1000  # of frames, which the entries of a list have in turn
BATCHES = 50  # that a process of a loader makes before its memory is read
VIEW_BATCH = 2
SMALL = Preprocessing(clip_len=1, short_side=16, crop_size=16, mean=(0.5,) * 3, std=(0.5,) * 3)


def classifier() -> ClipClassifier:
    torch.manual_seed(0)
    return ClipClassifier(build_model("i3d"), Normalize((0.5,) * 3, (0.5,) * 3))


def random_clips(count: int, clip_len: int, crop: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, clip_len, crop, crop, 3), dtype=torch.uint8)


def list_cost(num_entries: int) -> dict[str, float]:
    """Of the start of a run with so many videos, and the memory of one process of its loader."""
    with tempfile.TemporaryDirectory() as name:
        path = write_list(Path(name), num_entries)
        started = time.process_time()
        videos, _ = read_list(path, ["a"])
        lists = VideoLists(DatasetSpec(title=""), ["a"], videos, videos[:1], path.parent, path, 0)
        loader = train_loader(
            lists,
            SMALL,
            Augmentation(short_side=(16, 16)),
            Loading(workers=1),
            batch_size=20,
            seed=0,
        )
        read = time.process_time()
        check_paths(path, videos, some_missing=False)  # a sample of 100
        checked = time.process_time()
        epochs = itertools.chain.from_iterable(map(loader.epoch, itertools.count()))
        for _ in itertools.islice(epochs, BATCHES):
            pass
        (worker,) = multiprocessing.active_children()
        megabytes = private_megabytes(worker.pid)
        del epochs, loader  # ends the worker, which reads ahead, before its frames are gone
    return {"start-up s": read - started, "check s": checked - read, "MB a worker": megabytes}


def write_list(folder: Path, num_entries: int) -> Path:
    """Line by line: whatever it would leave in memory would be the run's."""
    for i in range(min(num_entries, FOLDERS)):
        frames = folder / f"frames/v_ApplyEyeMakeup_g{i:05d}"
        frames.mkdir(parents=True)
        Image.new("RGB", (24, 18)).save(frames / "image_00001.jpg")
    path = folder / "trainlist01.json"
    with path.open("w") as file:
        for i in range(num_entries):
            frames = f"frames/v_ApplyEyeMakeup_g{i % FOLDERS:05d}"
            entry = {"path": frames, "class_name": "a", "label": 0, "num_frames": 1}
            file.write(("," if i else "[") + json.dumps(entry))
        file.write("]")
    return path


def processes_cost(num_processes: int, crop: int, steps: int) -> dict[str, float]:
    """Of training with so many, each on two clips a step; "efficiency" compares their speed with
    that of as many runs of one process at the same time, which share the machine and nothing else.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"WORLD_SIZE": num_processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [variables | {"RANK": i, "LOCAL_RANK": i} for i in range(num_processes)]
    apart = max(together([(seconds_a_step, {}, crop, steps) for _ in ranks]))
    one_run = max(together([(seconds_a_step, rank, crop, steps) for rank in ranks]))
    return {"clips/s": 2 * num_processes / one_run, "efficiency": apart / one_run}


def seconds_a_step(variables: dict, crop: int, steps: int) -> float:
    """Of training in one process, which a launcher's variables may make part of a run; the first
    two do not count: one warms up, and after it the gradients are laid out anew."""
    os.environ |= {name: str(value) for name, value in variables.items()}
    with distributed.joined():
        wrapped = classifier()
        trainer = Trainer(
            distributed.wrapped(wrapped, CPU),
            wrapped.model,
            Optimization(epochs=1, batch_size=2, lr=1e-3, schedule="step"),
            Regularization(),
            Averages(CPU, num_classes=400, clip_len=8),
            Faults("training", 2, "stop", 0),
            steps_per_epoch=steps + 2,
            precision="fp32",
            micro_batch=2,
            seed=0,
        )
        trainer.to_training()
        clips, labels, seconds = random_clips(2, 8, crop), torch.tensor([0, 1]), []
        for _ in range(steps + 2):
            started = time.perf_counter()
            trainer.train_batch(clips, labels)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def views_cost(num_views: int, crop: int) -> dict[str, float]:
    """Of the evaluation of one video, whose views go through the network two at a time; the memory
    beside the views themselves, which a loader made."""
    network = classifier()
    small, _, frames, *size = SMALLEST
    score(network, random_clips(small, frames, size[0]))
    views = random_clips(num_views, 8, crop)
    before = peak_megabytes()
    score(network, views)
    megabytes = megabytes_since(before)
    started = clock()
    score(network, views)
    return {"seconds": clock() - started, "MB": megabytes}


def score(network: ClipClassifier, views: torch.Tensor) -> None:
    batch = views[None], torch.tensor([0]), torch.tensor([0])
    batches = score_batches(network, [batch], CPU, view_batch=VIEW_BATCH)
    score_videos(batches, names=["a video"], class_names=[], average="scores", protocol="")
