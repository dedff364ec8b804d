"""What a GPU makes of training: how fast each network trains, what it computes, when it waits.

    python benchmarks/gpu.py checks      # is it right, and is it fast? five minutes, a table
    python benchmarks/gpu.py training    # clips a second, memory and utilization, way by way
    python benchmarks/gpu.py profile     # the largest kernels, copies, launches and waits of a step
    python benchmarks/gpu.py loading     # from JPEG files to trained weights: who waits for whom

    ... [--only i3d s3d] [--ways "plain" "bf16, channels last"] [--save]

"plain" is how most repositories train: normalized floats in contiguous memory, torch's own
optimizer and precision, the loss read at each step. All other ways are steps of this project's
trainer, with uint8 batches, fused optimizer and averages. torchvision's networks are trained in
every way, too. `--tiny` shrinks all until it runs on a CPU: a test of this program, no measurement.
"""

import argparse
import gc
import itertools
import os
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__" and sys.argv[1:2] == ["checks"]:
    # before the imports: what is missing is found out by a check
    from benchmarks.gpu_checks import main as checks

    sys.exit(checks(sys.argv[2:]))

import torch
import torchvision
from torch import nn
from torch.autograd import DeviceType
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import results
from config import Augmentation, Loading, Optimization, Preprocessing, Regularization, UserError
from models import build_model
from pt_dataset.faults import Faults
from utils.averages import Averages, peak_memory_gb
from utils.classifier import ClipClassifier, Normalize
from utils.options.compile import compiled
from utils.precision import choose_precision
from utils.trainer import Trainer

NUM_CLASSES = 400
MEAN = STD = (0.45,) * 3
SGD = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 1e-4}
MARK = "measured steps"  # in a profile
# what only moves numbers, to another place, layout or precision; of torch.compile's kernels, whose
# names tell all that is fused in them, those that do nothing else
COPIES = re.compile(r"copy|memcpy|nchwtonhwc|nhwctonchw|transpose|permute", re.IGNORECASE)
COMPILED_COPIES = re.compile(r"triton_\w+?_fused_(_to_copy|clone|copy)_\d+")


@dataclass(frozen=True, kw_only=True)
class Network:
    build: Callable[[], nn.Module]
    frames: int
    stride: int = 1
    snippet_len: int = 0  # see config.Preprocessing
    crop: int = 224
    batch_sizes: tuple[int, ...] = (8, 24)


NETWORKS = {
    "i3d": Network(build=lambda: build_model("i3d"), frames=64),
    "s3d": Network(build=lambda: build_model("s3d"), frames=64),
    "torchvision s3d": Network(build=lambda: torchvision.models.video.s3d(), frames=64),
    "resnet3d": Network(build=lambda: build_model("resnet3d"), frames=32, stride=2),
    "resnet3d nl5": Network(
        build=lambda: build_model("resnet3d", non_local=5), frames=32, stride=2
    ),
    "torchvision r3d_18": Network(build=lambda: torchvision.models.video.r3d_18(), frames=32),
    "tsn": Network(
        build=lambda: build_model("tsn", backbone="resnet50"),
        frames=8,
        snippet_len=1,
        batch_sizes=(16, 64),
    ),
}
OURS = [name for name in NETWORKS if not name.startswith("torchvision")]


class Way(NamedTuple):
    precision: str | None  # of utils.precision; None: what torch does unless it is told otherwise
    channels_last: bool = False
    compile: bool = False
    plain: bool = False


WAYS = {
    "plain": Way(None, plain=True),
    "plain, bf16": Way("bf16", plain=True),
    **{
        f"{name}, {'channels last' if last else 'contiguous'}": Way(precision, last, compile)
        for name, precision, compile in (
            ("fp32", "fp32", False),
            ("torch's default", None, False),
            ("bf16", "bf16", False),
            ("bf16 compiled", "bf16", True),
        )
        for last in (False, True)
    },
}
BEST = "bf16, channels last"
OF_TORCH = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def network_of(name: str, opts: argparse.Namespace) -> Network:
    found = NETWORKS[name]
    if opts.batch_sizes:
        found = replace(found, batch_sizes=opts.batch_sizes)
    if not opts.tiny:
        return found
    return replace(found, frames=8, stride=1, crop=32, batch_sizes=opts.batch_sizes or (2,))


def build(name: str, opts: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[name].build()
    if opts.tiny and name == "torchvision s3d":
        model.avgpool = nn.AdaptiveAvgPool3d(1)  # its own has a window of 7 x 7 positions
    return model


def set_precision(way: Way, opts: argparse.Namespace, model: nn.Module, shape: tuple) -> str:
    """Tells torch; the precision's name for the trainer."""
    torch.set_float32_matmul_precision(OF_TORCH[0])
    torch.backends.cudnn.allow_tf32 = OF_TORCH[1]
    if way.precision and opts.device.type == "cuda" and not way.plain:
        return choose_precision(way.precision, opts.device, model, shape)
    return way.precision or "fp32"


def build_trainer(name: str, way: Way, batch_size: int, opts: argparse.Namespace) -> Trainer:
    """As main.py builds it."""
    network, model = network_of(name, opts), build(name, opts)
    shape = (batch_size, 3, network.frames, network.crop, network.crop)
    precision = set_precision(way, opts, model, shape)
    normalize = Normalize(MEAN, STD, channels_last=way.channels_last)
    classifier = ClipClassifier(model, normalize, precision).to(opts.device)
    if way.compile:
        classifier = (
            torch.compile(classifier, backend="eager")  # without minutes of a compiler
            if opts.tiny
            else compiled(classifier, opts.device)
        )
    trainer = Trainer(
        classifier,
        model,
        Optimization(epochs=1, batch_size=batch_size, schedule="cosine", **SGD),
        Regularization(),
        Averages(opts.device, NUM_CLASSES, network.frames),
        Faults("training", 0, "stop", 0),
        steps_per_epoch=10**6,
        precision=precision,
        micro_batch=batch_size,
        seed=0,
    )
    trainer.to_training()
    return trainer


def batch_of(network: Network, size: int, opts: argparse.Namespace) -> list[torch.Tensor]:
    """uint8 clips and labels, where a loader leaves them."""
    clips = torch.randint(
        256, (size, network.frames, network.crop, network.crop, 3), dtype=torch.uint8
    )
    batch = clips, torch.randint(NUM_CLASSES, (size,))
    return [tensor.pin_memory() if opts.device.type == "cuda" else tensor for tensor in batch]


def plain_step(name: str, way: Way, size: int, opts: argparse.Namespace) -> Callable[[], object]:
    model = build(name, opts).to(opts.device).train()
    set_precision(way, opts, model, ())
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    clips, labels = batch_of(network_of(name, opts), size, opts)
    clips = ((clips.permute(0, 4, 1, 2, 3) / 255 - MEAN[0]) / STD[0]).contiguous()
    if opts.device.type == "cuda":
        clips = clips.pin_memory()

    def step() -> float:
        inputs, targets = (t.to(opts.device, non_blocking=True) for t in (clips, labels))
        with torch.autocast(opts.device.type, torch.bfloat16, enabled=way.precision == "bf16"):
            loss = cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def step_of(name: str, way: Way, size: int, opts: argparse.Namespace) -> Callable[[], object]:
    if way.plain:
        return plain_step(name, way, size, opts)
    trainer = build_trainer(name, way, size, opts)
    batch = batch_of(network_of(name, opts), size, opts)
    return lambda: trainer.train_batch(*batch)


def sync(opts: argparse.Namespace) -> None:
    if opts.device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], times: int, opts: argparse.Namespace) -> float:
    """Of one of several calls in a row, as a device works through them; median of repeats."""

    def run() -> None:
        for _ in range(times):
            work()

    taken = results.interleaved({"": run}, opts.repeats, sync=lambda: sync(opts))[""]
    return statistics.median(taken) / times


def training_flops(name: str, opts: argparse.Namespace) -> int:
    """Of one clip, forward and backward, counted without computing."""
    network = network_of(name, opts)
    model = build(name, opts).to("meta").train()
    # two clips, since some batch norms see a single value of each
    clips = torch.empty(2, 3, network.frames, network.crop, network.crop, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(clips).sum().backward()
    return counter.get_total_flops() // 2


def peak_rates(opts: argparse.Namespace) -> tuple[float, float]:
    """Multiply-adds x 2 of a large bfloat16 product, and bytes of a large copy, a second."""
    size, num_bytes = (256, 2**20) if opts.tiny else (8192, 2**32)
    a, b = (torch.randn(size, size, device=opts.device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=opts.device)
    target = torch.empty_like(source)
    product = seconds_of(lambda: a @ b, 10, opts)
    copy = seconds_of(lambda: target.copy_(source), 10, opts)
    return 2 * size**3 / product, 2 * num_bytes / copy  # each byte is read and written


def free(opts: argparse.Namespace) -> None:
    """After a network, and the graph of an error: what it held."""
    torch._dynamo.reset()
    gc.collect()
    if opts.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def tried(row: dict, measure: Callable[[], dict]) -> dict:
    """The row with what was measured, or with what went wrong: the next rows may well work."""
    try:
        row |= measure()
    except torch.OutOfMemoryError:
        row |= {"note": "out of memory"}
    except (RuntimeError, UserError) as error:  # a kernel or a compiler that does not work here
        row |= {"note": str(error).strip().splitlines()[0]}
    print(" ".join(f"{key}={value}" for key, value in row.items()), file=sys.stderr, flush=True)
    return row


def training(name: str, opts: argparse.Namespace) -> list[dict]:
    flops, rows = training_flops(name, opts), []
    for size in network_of(name, opts).batch_sizes:
        for label in opts.ways:

            def measure(label=label, size=size) -> dict:
                step = step_of(name, WAYS[label], size, opts)
                step()  # its memory holds what kernels were tried with, too
                if opts.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                seconds = seconds_of(step, opts.steps, opts)
                rate = size / seconds
                return {
                    "clips_per_s": rate,
                    "step_ms": 1000 * seconds,
                    "memory_gb": peak_memory_gb(opts.device),
                    "utilization_%": 100 * flops * rate / (1e12 * opts.matrix_tflop_per_s),
                }

            row = {"network": name, "way": label, "batch": size, "gflop_a_clip": flops / 1e9}
            rows.append(tried(row, measure))
            free(opts)
    return rows


def profiling(name: str, opts: argparse.Namespace) -> list[dict]:
    size, rows = network_of(name, opts).batch_sizes[0], []
    for label in opts.ways:
        row = {"network": name, "way": label, "batch": size}
        rows.append(tried(row, lambda: profile_of(name, label, size, opts)))  # noqa: B023
        free(opts)
    return rows


def profile_of(name: str, label: str, size: int, opts: argparse.Namespace) -> dict:
    step = step_of(name, WAYS[label], size, opts)
    for _ in range(3):  # kernels are chosen, graphs compiled
        step()
    sync(opts)
    on_gpu = opts.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        with record_function(MARK):
            for _ in range(opts.steps):
                step()
        sync(opts)
    return summary(profiler.events(), opts.steps, on_gpu)


def summary(events: list, steps: int, on_gpu: bool) -> dict:
    """Of a step; on a CPU operators take the place of kernels."""
    marked = next(e for e in events if e.name == MARK and e.device_type == DeviceType.CPU)
    on_host = [
        e.name
        for e in events
        if e.device_type == DeviceType.CPU and e.time_range.start <= marked.time_range.end
    ]
    times, calls = Counter(), Counter()
    for event in events:
        if event.device_type == (DeviceType.CUDA if on_gpu else DeviceType.CPU):
            # ranges that name a part of the program are no kernels
            if event.name == MARK or event.is_user_annotation:
                continue
            taken = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            times[event.name] += taken
            calls[event.name] += 1
    total = times.total()
    copies = [name for name in times if is_copy(name)]
    launches = sum("Launch" in name for name in on_host) if on_gpu else calls.total()
    row = {"device_ms": total / 1000 / steps, "launches": launches / steps}
    row["waits_of_host"] = sum("Synchronize" in name for name in on_host) / steps
    row["copies"] = sum(calls[name] for name in copies) / steps
    row["copies_%"] = 100 * sum(times[name] for name in copies) / total
    for i, (name, taken) in enumerate(times.most_common(3)):
        row[f"kernel {i + 1}"] = f"{100 * taken / total:.0f} % {short(name)}"
    return row


def is_copy(kernel: str) -> bool:
    if kernel.startswith("triton_"):
        return COMPILED_COPIES.fullmatch(kernel) is not None
    return COPIES.search(kernel) is not None


def short(kernel: str) -> str:
    """Without what all names have in common."""
    return re.sub(r"^void |at::native::|\(anonymous namespace\)::", "", kernel)[:90]


def loading(name: str, opts: argparse.Namespace) -> list[dict]:
    from benchmarks.loader import write_frames, write_zip  # need what only reading files needs

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames, archive = Path(folder) / "frames", Path(folder) / "frames.zip"
        files = write_frames(frames)
        write_zip(archive, frames)
        for label in opts.ways:
            rows += loading_rows(name, label, frames, f"{archive}/v", files, opts)
    return rows


def loading_rows(
    name: str,
    label: str,
    frames: Path,
    packed: str,
    files: list[bytes],
    opts: argparse.Namespace,
) -> list[dict]:
    size = network_of(name, opts).batch_sizes[0]
    trainer = build_trainer(name, WAYS[label], size, opts)
    batch = batch_of(network_of(name, opts), size, opts)
    alone = size / seconds_of(lambda: trainer.train_batch(*batch), opts.steps, opts)
    same = {"network": name, "way": label, "batch": size, "workers": opts.workers}
    sources = {
        "frames": lambda: from_loader(trainer, name, frames, size, opts),
        "packed zip": lambda: from_loader(trainer, name, packed, size, opts),
        "torchvision, on the device": lambda: from_decoder(trainer, name, files, size, opts),
    }
    rows = []
    for source, measure in sources.items():

        def measured(measure=measure) -> dict:
            rate = measure()
            # of the time of a step, what it takes longer than with a batch that is there
            waiting = 100 * max(1 - rate / alone, 0)
            return {"clips_per_s": rate, "with_batch_there": alone, "device_waits_%": waiting}

        rows.append(tried(same | {"source": source}, measured))
    free(opts)
    return rows


def from_loader(
    trainer: Trainer, name: str, video: Path | str, size: int, opts: argparse.Namespace
) -> float:
    """Clips a second of epochs as main.py runs them, without their first steps."""
    from benchmarks.loader import lists_of
    from pt_dataset.loader import train_loader

    network = network_of(name, opts)
    # the processes begin together and their batches come together: many rounds of them
    every = 2 * max(opts.workers, 1)
    loader = train_loader(
        lists_of(video, size * every * 3),
        Preprocessing(
            clip_len=network.frames,
            stride=network.stride,
            crop_size=network.crop,
            snippet_len=network.snippet_len,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
        ),
        Augmentation(),
        Loading(workers=opts.workers),
        batch_size=size,
        seed=0,
    )
    trainer.epoch = trainer.step = 0
    steps = itertools.islice(trainer.steps(loader.epoch(), log_every=every), len(loader))
    rates = [metrics["clips_per_s"] for metrics in steps if metrics]
    return statistics.median(rates[1:])


def from_decoder(
    trainer: Trainer, name: str, files: list[bytes], size: int, opts: argparse.Namespace
) -> float:
    """The same clips decoded by the device itself; files are read before, which favors it."""
    network = network_of(name, opts)
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    step = 1 if not network.snippet_len else len(files) // network.frames
    wanted = tensors[:: max(step, network.stride)][: network.frames]
    labels = torch.zeros(size, dtype=torch.long, device=opts.device)
    transfer, trainer.transfer = trainer.transfer, None  # the clips are there

    def clips() -> Iterator[torch.Tensor]:
        rgb = torchvision.io.ImageReadMode.RGB
        for _ in range(size):
            decoded = torchvision.io.decode_jpeg(wanted, mode=rgb, device=opts.device)
            clip = torch.stack(decoded).permute(0, 2, 3, 1)  # (T, H, W, C)
            top, left = (
                torch.randint(side - network.crop + 1, ()).item() for side in clip.shape[1:3]
            )
            yield clip[:, top : top + network.crop, left : left + network.crop]

    def work() -> None:
        trainer.train_batch(torch.stack(list(clips())).contiguous(), labels)

    try:
        return size / seconds_of(work, opts.steps, opts)
    finally:
        trainer.transfer = transfer


COMMANDS = {"training": training, "profile": profiling, "loading": loading}


def parse_opts(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, metavar="NETWORK")
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY")
    parser.add_argument("--batch-sizes", nargs="+", type=int, metavar="N")
    parser.add_argument("--steps", type=int, help="in a row, between two looks at the clock")
    parser.add_argument("--repeats", type=int, help="of so many steps; the median counts")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tiny", action="store_true", help="small enough for a CPU")
    results.add_save(parser)
    opts = parser.parse_args(argv)
    if not torch.cuda.is_available() and not opts.tiny:
        parser.error("there is no GPU; --tiny shows on a CPU that the program runs")
    if opts.what == "loading" and any(WAYS[label].plain for label in opts.ways or ()):
        parser.error("loading is a matter of the trainer: no plain way")
    opts.device = torch.device("cpu" if opts.tiny else "cuda")
    opts.workers = 1 if opts.tiny else opts.workers
    opts.steps = opts.steps or (1 if opts.tiny else 5)
    opts.repeats = opts.repeats or (1 if opts.tiny else 3)
    opts.only = opts.only or (OURS if opts.what == "loading" else list(NETWORKS))
    opts.ways = opts.ways or (list(WAYS) if opts.what == "training" else [BEST])
    return opts


def main(argv: list[str] | None = None) -> None:
    opts = parse_opts(argv)
    torch.backends.cudnn.benchmark = True  # as main.py has it; the plain way gets it, too
    if opts.what == "training":
        matrix, copy = peak_rates(opts)
        opts.matrix_tflop_per_s, opts.copy_gb_per_s = matrix / 1e12, copy / 1e9  # into the files
        print(
            f"bfloat16 product {matrix / 1e12:.3g} TFLOP/s, copy {copy / 1e9:.4g} GB/s, as "
            "measured here; utilization is the share of that product"
        )
        free(opts)
    for name in opts.only:  # each has a file of its own, so that what was measured is not lost
        rows = COMMANDS[opts.what](name, opts)
        results.finish(f"gpu_{opts.what}_{name.replace(' ', '_')}", opts, rows)


if __name__ == "__main__":
    main()
