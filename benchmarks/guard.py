"""Has anything become slower? Ratios of a few minutes, compared with the last that were saved.

    python benchmarks/guard.py             # or: make bench; exit status 1 if something is slower
    python benchmarks/guard.py --save      # the new ones to compare with, to be committed

Each line is something of ours over a yardstick of the same kind beside it, both on one core and in
turns: libjpeg-turbo for the loader, torchvision's networks for ours, a bare step for the trainer.
Ratios of another machine are another matter: it says so where the processor is not the same.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch.nn.functional import cross_entropy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import loader, results
from benchmarks.models import run_once
from benchmarks.startup import python
from config import Optimization, Regularization
from models import build_model
from pt_dataset.datalist import list_text, read_list
from pt_dataset.faults import Faults
from pt_dataset.processes.memory import keep_freed_memory
from pt_dataset.video_list import Video
from utils.averages import Averages
from utils.classifier import ClipClassifier, Normalize, to_channels_last
from utils.optim import build_optimizer
from utils.trainer import Trainer

CLIPS = torch.Size((1, 3, 16, 112, 112))
LIST_LENGTH = 50_000
TURNS = 8  # of a clip, for each repeat of the others


class Pair(NamedTuple):
    """What is compared; lower ratios are better."""

    ours: Callable[[], object]
    yardstick: Callable[[], object]
    tolerance: float  # how much larger the ratio may be than the last one
    clock: Callable[[], float] = time.process_time
    times: int = 1  # as many repeats: what is short, or differs from one time to the next


def children_time() -> float:
    """Seconds that ended child processes have computed."""
    times = os.times()
    return times.children_user + times.children_system


def loading(folder: Path) -> dict[str, Pair]:
    """Clips over decoding the same frames and nothing else."""
    frames, archive, video = folder / "frames", folder / "frames.zip", folder / "video.mp4"
    files = loader.write_frames(frames)
    loader.write_zip(archive, frames)
    loader.write_video(video, files)
    eight = replace(loader.SEGMENTS, clip_len=8)
    shapes = {
        "clip of 64 frames": (frames, loader.CLIP),
        "clip from a zip": (f"{archive}/v", loader.CLIP),
        "clip, short side 256 to 320": (frames, loader.CLIP, loader.JITTERED),
        "clip, any window, resized": (frames, loader.CLIP, loader.RESIZED),
        "8 segments": (frames, eight),
        "8 segments, corner crops": (frames, eight, loader.CORNERS),
    }
    pairs = {
        f"{name} / decoding alone": Pair(
            loader.items(*of)[1], lambda: loader.decode(files), 0.12, times=TURNS
        )
        for name, of in shapes.items()
    }
    from_video = loader.items(video, loader.CLIP)[1]
    return pairs | {
        "clip from a video / decoding alone": Pair(
            from_video, lambda: loader.decode_video(video), 0.12, times=TURNS
        )
    }


def step_of(network: torch.nn.Module, shape: torch.Size = CLIPS) -> Callable[[], None]:
    """Forward and backward of one batch of noise, channels-last as in training."""
    network, layout = to_channels_last(network.train()), torch.channels_last
    if len(shape) == 5:
        layout = torch.channels_last_3d
    return partial(run_once, network, torch.randn(shape).contiguous(memory_format=layout))


def networks() -> dict[str, Pair]:
    """A training step of ours over one of torchvision's."""
    video = torchvision.models.video
    r3d_18, frames = step_of(video.r3d_18()), torch.Size((8, 3, 112, 112))
    large = torch.Size((1, 3, 16, 224, 224))  # torchvision's s3d takes no smaller ones
    tsn = build_model("tsn", backbone="resnet50")
    return {
        "s3d / torchvision's s3d": Pair(
            step_of(build_model("s3d"), large), step_of(video.s3d(), large), 0.15
        ),
        "i3d / torchvision's r3d_18": Pair(step_of(build_model("i3d")), r3d_18, 0.15),
        "resnet3d / torchvision's r3d_18": Pair(step_of(build_model("resnet3d")), r3d_18, 0.15),
        "tsn of 8 segments / torchvision's resnet50": Pair(
            step_of(tsn, torch.Size((1, 3, 8, 112, 112))),
            step_of(torchvision.models.resnet50(), frames),
            0.15,
        ),
    }


def training() -> dict[str, Pair]:
    """A step of the trainer over the same without it."""
    clips = torch.randint(0, 256, (2, 8, 64, 64, 3), dtype=torch.uint8)
    labels, normalize = torch.tensor([0, 1]), Normalize((0.5,) * 3, (0.5,) * 3)

    settings = Optimization(epochs=1, batch_size=2, lr=0.01, weight_decay=0, schedule="step")

    def fresh() -> tuple[ClipClassifier, torch.nn.Module]:
        network = build_model("i3d", num_classes=10).train()
        return ClipClassifier(network, normalize), network

    classifier, network = fresh()
    trainer = Trainer(
        classifier,
        network,
        settings,
        Regularization(),
        Averages(torch.device("cpu"), num_classes=10, clip_len=8),
        Faults("training", 2, "stop", 0),
        steps_per_epoch=1000,
        precision="fp32",
        micro_batch=2,
        seed=0,
    )
    bare, bare_network = fresh()
    bare_optimizer = build_optimizer(bare_network, settings)

    def bare_step() -> None:
        bare_optimizer.zero_grad(set_to_none=True)
        cross_entropy(bare(clips), labels).backward()
        bare_optimizer.step()

    ours = partial(trainer.train_batch, clips, labels)
    return {"a step of the trainer / a bare step": Pair(ours, bare_step, 0.1)}


def starting(folder: Path) -> dict[str, Pair]:
    """What a researcher waits for before anything happens."""
    path = folder / "list.json"
    video = Video(str(folder / "frames"), 0, "a", loader.NUM_FRAMES)
    path.write_text(list_text([video] * LIST_LENGTH, folder))

    return {
        "main.py --help / import torch": Pair(
            python("main.py", "--help"), python("-c", "import torch"), 0.5, children_time
        ),
        "reading a list / json.load": Pair(
            lambda: read_list(path, ["a"]), lambda: json.loads(path.read_text()), 0.25
        ),
    }


def measure(pairs: dict[str, Pair], repeats: int) -> list[dict]:
    rows = []
    for name, pair in pairs.items():
        work = {"ours": pair.ours, "yardstick": pair.yardstick}
        seconds = results.interleaved(work, repeats * pair.times, clock=pair.clock)
        ratio = results.ratio(seconds["ours"], seconds["yardstick"])
        rows.append({"what": name, "ratio": ratio, "tolerance": pair.tolerance})
    return rows


def compare(rows: list[dict], last: dict | None) -> list[str]:
    """Adds the last ratio to each row; the names of those that have become slower."""
    before = {row["what"]: row["ratio"] for row in last["rows"]} if last else {}
    slower = []
    for row in rows:
        row["last"] = before.get(row["what"], "")
        if row["last"] and row["ratio"] > row["last"] * (1 + row["tolerance"]):
            slower.append(row["what"])
    return slower


def main(argv: list[str] | None = None) -> int:
    """The guard; its exit status is 1 if something has become slower."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=results.positive, default=7)
    parser.add_argument(
        "--against",
        type=Path,
        default=results.FOLDER,
        metavar="FOLDER",
        help="where the last result is (default: benchmarks/results)",
    )
    results.add_save(parser)
    opts = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()  # as loader processes do
    last = results.last("guard", opts.against)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = loading(folder) | networks() | training() | starting(folder)
        rows = measure(pairs, opts.repeats)
    slower = compare(rows, last)
    results.finish("guard", opts, rows)
    if last is None:
        print(f"nothing to compare with in {opts.against}; --save makes it")
        return 0
    then, now = last["environment"], results.environment()
    if (then["cpu"], then["torch"]) != (now["cpu"], now["torch"]):
        print(f"note: the last result is of {then['cpu']} with torch {then['torch']}")
    for what in slower:
        print(f"slower than on {then['date']}: {what}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
