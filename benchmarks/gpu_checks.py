"""Does a GPU compute what it should, and does nothing stand in its way? Fifteen checks, one table.

    python benchmarks/gpu.py checks                      # all, in less than five minutes
    python benchmarks/gpu.py checks --only convs fp16 --save results

Each check runs in a process of its own with its own limit of time, so that one that fails, hangs
or takes the GPU down with it is a row like the others. What only has to be right runs side by
side, then what is timed or fills the memory, one after the other. `--tiny` shrinks all until it
runs on a CPU: a test of this program, no check.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import results

# what only reads files or shows curves, and may be missing
OPTIONAL = ("tqdm", "matplotlib", "cv2", "simplejpeg", "av", "visdom", "pytest")
BROKEN_CUDNN = range(90800, 91500)  # bfloat16 conv3d is wrong or slow: pytorch/pytorch#163539
PATIENCE = 3  # seconds from the request to end to the end
AT_ONCE = 6  # processes that only have to be right
FOUND = "found: "  # before what a check has found
TAIL = 3000  # characters of what a failed check printed


class Wrong(Exception):
    """What a check has found, in a sentence."""


class Place(NamedTuple):
    """Where a check runs."""

    folder: Path  # its own; beside it lies the demo set
    device: torch.device
    tiny: bool


def expect(right: bool, found: str) -> str:
    """`found`, which is what is wrong unless it is `right`."""
    if not right:
        raise Wrong(found)
    return found


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], object], times: int = 10, warm_up: int = 3) -> float:
    """Of one call; the median of single ones, each waited for."""
    taken = []
    for _ in range(warm_up + times):
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[warm_up:])


def output_of(command: list[str], here: Path, **variables: str) -> str:
    """What a program prints; it is printed here, too. Raises Wrong if it fails."""
    done = subprocess.run(
        command,
        cwd=here,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    print(" ".join(command), done.stdout, sep="\n", flush=True)
    if done.returncode:
        raise Wrong(
            f"{Path(command[1]).name} ended with {done.returncode}: {last_line(done.stdout)}"
        )
    return done.stdout


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


# --- runs of main.py ---


def command_of(place: Place, *argv: str) -> list[str]:
    """A run of main.py on the device of the check; later options win over these."""
    device = ("--device", "cpu") if place.tiny else ()
    return [sys.executable, str(ROOT / "main.py"), *argv, "--no-visdom", "--workers", "3", *device]


def demo(place: Place, name: str, *argv: str, arch: str = "i3d") -> list[str]:
    """The demo set, which lies beside the folders of the checks."""
    of_set = "--dataset", "demo", "--data-root", str(place.folder.parent / "data")
    shrunk = ("--batch-size", "8", "--crop-size", "32") if place.tiny else ()
    return command_of(place, "--arch", arch, *of_set, "--name", name, *shrunk, *argv)


def run(place: Place, name: str, *argv: str, arch: str = "i3d") -> str:
    return output_of(demo(place, name, *argv, arch=arch), place.folder)


def losses(place: Place, name: str) -> list[float]:
    """Of the training, epoch by epoch."""
    lines = (place.folder / "saved_model" / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train/loss"] for line in lines]


def agree(values: list[float], tolerance: float) -> bool:
    return max(values) <= (1 + tolerance) * min(values)  # never of what is not a number


def side_by_side(*works: Callable[[], object]) -> None:
    """All of them at once; raises what the first of them has raised."""
    with ThreadPoolExecutor(len(works)) as pool:
        for job in [pool.submit(work) for work in works]:
            job.result()


def interrupted(place: Place, name: str, *argv: str, **variables: str) -> None:
    """A run that Ctrl-C ends after its first steps."""
    steps = place.folder / "saved_model" / name / "steps.jsonl"
    log = place.folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            demo(place, name, *argv, "--log-every", "1"),
            cwd=place.folder,
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None and not (steps.exists() and steps.stat().st_size):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait()
    text = log.read_text(errors="replace")
    print(text, flush=True)
    expect("stopped by Ctrl-C" in text, f"Ctrl-C after the first steps: {last_line(text)}")


def one_process() -> dict[str, str]:
    """The variables of a launcher that starts one process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    return alone | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


# --- the checks, in their order ---


def check_env(place: Place) -> str:
    """Versions and packages; the demo set is written for the others."""
    from importlib.util import find_spec

    missing = [name for name in OPTIONAL if find_spec(name) is None]
    cudnn = torch.backends.cudnn.version() or 0
    found = [f"torch {torch.__version__}", f"cuDNN {cudnn}", f"Python {sys.version.split()[0]}"]
    if not place.tiny:
        count, memory = torch.cuda.device_count(), torch.cuda.mem_get_info()
        found += [f"{count} x {torch.cuda.get_device_name()}"]
        found += [f"{memory[0] / 2**30:.0f} of {memory[1] / 2**30:.0f} GiB free"]
    found += [f"{len(os.sched_getaffinity(0))} cores"]
    found += [f"without {', '.join(missing)}"] if missing else []
    output_of(
        [sys.executable, str(ROOT / "pt_dataset/make_demo.py"), "--data-root", "data"],
        place.folder.parent,
    )
    if place.tiny:  # an epoch of two steps
        for path in (place.folder.parent / "data/demo").glob("*list01.json"):
            path.write_text(json.dumps(json.loads(path.read_text())[:16]))
    return expect(cudnn not in BROKEN_CUDNN, ", ".join(found))


def check_tests(place: Place) -> str:
    """The tests that need a GPU, among their neighbors."""
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in ("trainer", "training")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    output = output_of(command + ["-k", "copies_beside"] * place.tiny, ROOT)
    return expect(place.tiny or "needs a GPU" not in output, last_line(output).strip("= "))


def check_convs(place: Place) -> str:
    """Gradients in bfloat16 against float32, in every shape of convolution of three networks."""
    from models import build_model
    from utils.options.half_layers import convolution_shapes, wrong_layers

    wrong, num_shapes = [], 0
    shape = (2, 3, 8, 32, 32) if place.tiny else (2, 3, 64, 224, 224)
    for arch in ("i3d",) if place.tiny else ("i3d", "s3d", "resnet3d"):
        model = build_model(arch, 10)
        num_shapes += len(convolution_shapes(model, shape))
        wrong += [f"{arch}: {layer}" for layer in wrong_layers(model, shape, place.device)]
    found = f"{len(wrong)} of {num_shapes} shapes wrong"
    return expect(not wrong, f"{found}, such as {wrong[0]}" if wrong else found)


def check_demo(place: Place) -> str:
    """The demo set from the first step to the evaluation, with the default options."""
    began = time.perf_counter()
    output = run(place, "demo", *("--epochs", "1") * place.tiny)
    seconds = time.perf_counter() - began
    result = json.loads((place.folder / "saved_model/demo/result.json").read_text())
    warnings = {line.strip() for line in output.splitlines() if "Warning:" in line}
    found = f"top-1 {result['top1']:.1f} % in {seconds:.0f} s"
    found += f", {len(warnings)} warnings: {min(warnings)[:200]}" if warnings else ""
    in_bf16 = place.tiny or "on cuda in bf16" in output
    found += "" if in_bf16 else ", not in bf16"
    return expect(in_bf16 and (place.tiny or result["top1"] > 85), found)


def check_precisions(place: Place) -> str:
    """Three epochs in each precision: their last losses are alike."""
    names = ["fp32"] if place.tiny else ["fp32", "tf32", "bf16", "fp16"]
    epochs = "1" if place.tiny else "3"
    side_by_side(*(lambda p=p: run(place, p, "--precision", p, "--epochs", epochs) for p in names))
    last = {name: losses(place, name)[-1] for name in names}
    found = "loss " + ", ".join(f"{loss:.3f} in {name}" for name, loss in last.items())
    return expect(agree(list(last.values()), 0.25), found)


def check_fp16(place: Place) -> str:
    """A first step that overflows leaves SGD as it was."""
    from config import Optimization
    from utils.optim import build_optimizer

    model, classifier = network("i3d", place, "fp32" if place.tiny else "fp16")
    # what a reused block of memory may hold
    garbage = [
        torch.full((2**20,), 7e4, device=place.device) for _ in range(8 if place.tiny else 256)
    ]
    del garbage
    settings = Optimization(epochs=1, batch_size=2, optimizer="sgd", lr=0.01, momentum=0.9)
    optimizer = build_optimizer(model, settings)
    scaler = torch.amp.GradScaler(place.device.type)
    before = model.head.weight.detach().clone()
    for step in range(3):
        loss = classifier(clips(place, 2, 16, 112)).sum() * (1e38 if step == 0 else 1e-6)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    moved = (model.head.weight - before).abs().max().item()
    return expect(moved < 1e-2, f"the head moved by {moved:.2g} in the two steps after it")


def check_threads(place: Place) -> str:
    """What DataParallel pays for a new thread at each forward: cuDNN keeps its plans by thread."""
    _, classifier = network("i3d", place)
    batch, ratios = clips(place, 2, 16, 112), []

    def in_new_thread() -> None:
        thread = threading.Thread(target=forward)
        thread.start()
        thread.join()

    @torch.no_grad()
    def forward() -> None:
        classifier(batch)

    for benchmark in (False, True):
        torch.backends.cudnn.benchmark = benchmark
        same, new = (milliseconds(work, 2, warm_up=1) for work in (forward, in_new_thread))
        ratios.append(f"{same:.0f} ms in one thread, {new:.0f} in a new one ({new / same:.1f} x)")
    return f"a forward takes {ratios[0]}; with cudnn.benchmark {ratios[1]}"


def check_layers(place: Place) -> str:
    """Other ways to compute what networks spend their time on; all figures in milliseconds."""
    torch.backends.cudnn.benchmark = True
    return "; ".join([*norms(place), *pools(place), *temporal_convs(place)])


def activation(place: Place, *shape: int) -> torch.Tensor:
    """(N, C, T, H, W) as it stands between two layers."""
    shape = tuple(min(size, 8) for size in shape) if place.tiny else shape
    x = torch.randn(shape, device=place.device).relu().bfloat16()
    return x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()


def with_gradients(forward: Callable[[], torch.Tensor], *of: torch.Tensor) -> float:
    """Milliseconds, forward and backward."""
    ones = torch.ones_like(forward())
    return milliseconds(lambda: torch.autograd.grad(forward(), of, ones))


def norms(place: Place) -> Iterator[str]:
    for shape in ((8, 64, 32, 112, 112), (8, 480, 16, 14, 14)):
        x = activation(place, *shape)
        norm = nn.BatchNorm3d(x.shape[1]).to(place.device)
        ways = [
            with_gradients(lambda way=way, x=x, norm=norm: way(x, norm), x, *norm.parameters())
            for way in (lambda x, norm: norm(x), as_images)
        ]
        size = "x".join(map(str, x.shape))
        yield f"batch norm of {size} {ways[0]:.2f}, as 4-D {ways[1]:.2f}"


def as_images(x: torch.Tensor, norm: nn.BatchNorm3d) -> torch.Tensor:
    """Batch norm of (N, C, T * H, W), whose channels-last kernels are the fast ones."""
    how = norm.running_mean, norm.running_var, norm.weight, norm.bias, True
    return F.batch_norm(x.flatten(2, 3), *how).unflatten(2, x.shape[2:4])


def pools(place: Place) -> Iterator[str]:
    x = activation(place, 8, 64, 32, 112, 112)
    plain = with_gradients(
        lambda: F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 0, 0), ceil_mode=True), x
    )
    frames = with_gradients(
        lambda: F.max_pool2d(x.transpose(1, 2).flatten(0, 1), 3, 2, 0, ceil_mode=True), x
    )
    yield f"max_pool3d {plain:.2f}, of frames {frames:.2f}"


def temporal_convs(place: Place) -> Iterator[str]:
    from models.s3d import FlatConv3d
    from utils.classifier import to_channels_last

    for channels, frames, side in ((192, 32, 56), (208, 16, 14), (320, 8, 7)):
        x = activation(place, 8, channels, frames, side, side)
        conv = FlatConv3d(x.shape[1], x.shape[1], (3, 1, 1), (1, 1, 1), (1, 0, 0), bias=False)
        to_channels_last(conv.to(place.device).bfloat16())
        flat, plain = (
            with_gradients(lambda way=way, x=x, conv=conv: way(conv, x), x, conv.weight)
            for way in (FlatConv3d.forward, nn.Conv3d.forward)
        )
        size = "x".join(map(str, x.shape[1:4]))
        yield f"S3D's 3x1x1 of {size} {flat:.2f}, as conv3d {plain:.2f}"


def check_training(place: Place) -> str:
    """I3D trained in both layouts: channels last is not the slower one."""
    ways = ["bf16, contiguous", "bf16, channels last"]
    rows = measured(place, "training", "--ways", *ways, "--batch-sizes", "2" if place.tiny else "8")
    found = "; ".join(
        row.get("note")
        or f"{row['way']}: {row['clips_per_s']:.0f} clips/s, {row['utilization_%']:.0f} % of the "
        f"peak, {row['memory_gb']:.1f} GiB"
        for row in rows
    )
    last, first = (row.get("clips_per_s", 0) for row in reversed(rows))
    return expect(place.tiny or last > 0.95 * first > 0, found)


def check_profile(place: Place) -> str:
    """A step of I3D: the host does not wait, and copies, those of the clips included, are few."""
    (row,) = measured(place, "profile")
    expect("note" not in row, str(row.get("note")))
    kernels = ", ".join(row[f"kernel {i}"] for i in (1, 2, 3))
    found = f"{row['device_ms']:.0f} ms, {row['copies_%']:.1f} % copies, "
    found += f"{row['waits_of_host']:.0f} waits; {kernels}"
    return expect(place.tiny or (row["copies_%"] < 25 and row["waits_of_host"] < 1), found)


def measured(place: Place, what: str, *argv: str) -> list[dict]:
    """The rows of I3D."""
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), what, "--only", "i3d", *argv]
    output_of([*command, "--save", str(place.folder), *["--tiny"] * place.tiny], place.folder)
    (path,) = place.folder.glob(f"*_gpu_{what}_i3d.json")
    return json.loads(path.read_text())["rows"]


def check_memory(place: Place) -> str:
    """A batch that cannot fit: the parts that do are found, and twenty steps stay within them."""
    size = ("--clip-len", "64", "--crop-size", "224", "--short-side", "256", "--batch-size", "192")
    options = () if place.tiny else size
    output = run(place, "memory", "--micro-batch", "auto", "--plan", "--workers", "12", *options)
    plan = next((line for line in output.splitlines() if " GiB" in line), "0 GiB")
    parts = re.search(r"micro-batches of \d+ clips", output)
    found = f"{parts[0] if parts else 'the whole batch'}; {plan.split('; ')[-1]}"
    gib = float(re.search(r"([\d.]+) GiB", plan)[1])
    limit = 1e9 if place.tiny else torch.cuda.mem_get_info()[1] / 2**30
    return expect(0 < gib < limit, found)


def check_resume(place: Place) -> str:
    """Interrupted, gone on with, and then on the CPU, on the GPU again and in another layout."""
    interrupted(place, "k", "--checkpoint-steps", "3", "--epochs", "2")
    last = ("--resume", str(place.folder / "saved_model" / "k" / "last.pth"))
    elsewhere = [
        (),
        ("--epochs", "3", "--device", "cpu", "--precision", "fp32"),
        ("--epochs", "4", "--device", "cuda", "--precision", "fp16"),
        ("--epochs", "5", "--precision", "bf16", "--no-channels-last"),
    ]
    for argv in elsewhere[:2] if place.tiny else elsewhere:
        output_of(command_of(place, *last) + list(argv), place.folder)
    found = losses(place, "k")
    words = f"losses {', '.join(f'{loss:.3f}' for loss in found)}"
    return expect(all(b < 1.3 * a for a, b in zip(found, found[1:], strict=False)), words)


def check_compile(place: Place) -> str:
    """Compiled, with batch norm measured after an epoch: the same losses, few compilations."""
    epochs = ("--epochs", "1" if place.tiny else "2")
    outputs = []

    def compiled() -> None:
        command = demo(place, "compiled", "--compile", "--precise-bn", "5", *epochs, arch="tsn")
        outputs.append(output_of(command, place.folder, TORCH_LOGS="recompiles"))

    side_by_side(compiled, lambda: run(place, "plain", "--precise-bn", "5", *epochs, arch="tsn"))
    recompiled = outputs[0].count("Recompiling function")
    plain, own = losses(place, "plain")[-1], losses(place, "compiled")[-1]
    found = f"compiled anew {recompiled} times; loss {own:.3f}, without it {plain:.3f}"
    return expect(recompiled < 8 and agree([plain, own], 0.15), found)


def check_torchrun(place: Place) -> str:
    """One process of torchrun trains as none, and goes on after an interruption."""
    options = ["--epochs", "2", "--ema", "0.9", "--mixup", "0.2", "--clip-grad", "1"]
    options += ["--micro-batch", "8"]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=1"]

    def launched() -> None:
        python, *argv = demo(place, "launched", *options)
        output_of([python, *launcher, *argv], place.folder)

    def resumed() -> None:
        interrupted(place, "resumed", *options, **one_process())
        last = place.folder / "saved_model" / "resumed" / "last.pth"
        output_of(command_of(place, "--resume", str(last)), place.folder, **one_process())

    side_by_side(launched, resumed, lambda: run(place, "plain", *options))
    last = {name: losses(place, name)[-1] for name in ("plain", "launched", "resumed")}
    found = "loss " + ", ".join(f"{name} {loss:.4f}" for name, loss in last.items())
    return expect(agree(list(last.values()), 0.05), found)


def check_huge(place: Place) -> str:
    """S3D's first layer with more than 2**31 outputs: as of a quarter at a time."""
    from models import build_model
    from utils.classifier import to_channels_last

    layer = to_channels_last(build_model("s3d", 10).features[0].space).to(place.device)
    shape = (4, 3, 8, 32, 32) if place.tiny else (64, 3, 64, 224, 224)
    x = torch.randn(shape, device=place.device, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    found, how_far = [], []
    for parts in (1, 4):
        layer.zero_grad()
        layer.bn.reset_running_stats()
        layer.eval()  # so that the gradients of parts add up
        for part in x.chunk(parts):
            with torch.autocast(place.device.type, torch.bfloat16):
                y = layer(part)
            ramp = torch.linspace(-1, 1, y.shape[1], device=y.device).view(1, -1, 1, 1, 1)
            y.backward(ramp.to(y.dtype).expand_as(y))
            last = y.detach()[-1].float()
            del y
        layer.train()
        layer.bn.momentum = None  # torch's word for the plain average
        with torch.no_grad(), torch.autocast(place.device.type, torch.bfloat16):
            for part in x.chunk(parts):
                layer(part)
        found.append((last, layer.conv.weight.grad.clone(), layer.bn.running_var.clone()))
    for whole, part in zip(*found, strict=True):
        how_far.append(((whole - part).norm() / part.norm()).item())
    words = "relative differences: output {:.1e}, gradient {:.1e}, variance {:.1e}".format(*how_far)
    return expect(max(how_far) < 2e-2, words)


def network(arch: str, place: Place, precision: str = "bf16") -> tuple[nn.Module, nn.Module]:
    """The plain network and the classifier around it, in training."""
    from models import build_model
    from utils.classifier import ClipClassifier, Normalize

    model = build_model(arch, 101)
    classifier = ClipClassifier(model, Normalize((0.5,) * 3, (0.5,) * 3), precision)
    return model, classifier.to(place.device).train()


def clips(place: Place, count: int, frames: int, side: int) -> torch.Tensor:
    frames, side = (8, 32) if place.tiny else (frames, side)
    shape = (count, frames, side, side, 3)
    return torch.randint(256, shape, dtype=torch.uint8, device=place.device)


class Check(NamedTuple):
    work: Callable[[Path], str]
    seconds: int  # that it may take
    alone: bool = False  # it is timed, or fills the memory


CHECKS = {
    "env": Check(check_env, 120, alone=True),
    "tests": Check(check_tests, 150),
    "convs": Check(check_convs, 90),
    "demo": Check(check_demo, 120),
    "precisions": Check(check_precisions, 120),
    "fp16": Check(check_fp16, 60),
    "threads": Check(check_threads, 60, alone=True),
    "layers": Check(check_layers, 60, alone=True),
    "training": Check(check_training, 90, alone=True),
    "profile": Check(check_profile, 90, alone=True),
    "memory": Check(check_memory, 120, alone=True),
    "resume": Check(check_resume, 240),
    "compile": Check(check_compile, 180),
    "torchrun": Check(check_torchrun, 120),
    "huge": Check(check_huge, 60),
}


# --- all of them, and their table ---


def row_of(name: str, folder: Path, ends: float, tiny: bool) -> dict:
    """The check in a process of its own, with all that it starts."""
    began = time.monotonic()
    seconds = CHECKS[name].seconds * (5 if tiny else 1)  # a CPU is slow even at little
    limit, place = min(seconds, ends - began), folder / name
    if limit <= 1:
        return {"check": name, "result": "not run", "found": "no time was left"}
    place.mkdir()
    log = place / "log.txt"
    with log.open("w") as output:
        # a group of its own: its loader's processes end with it
        process = subprocess.Popen(
            command_for(name, place, tiny),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},  # nothing is known yet
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its processes, of other groups
            time.sleep(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_text(errors="replace")
    found = [line.removeprefix(FOUND) for line in text.splitlines() if line.startswith(FOUND)]
    row = {
        "check": name,
        "result": "pass" if status == 0 and found else "FAIL",
        "seconds": round(time.monotonic() - began),
        "found": found[-1] if found else last_line(text),
    }
    if status is None:
        row["found"] = f"stopped after {limit:.0f} s; {row['found']}"
    elif status < 0:
        row["found"] = f"ended by {signal.Signals(-status).name}; {row['found']}"
    if row["result"] == "FAIL":
        row["log"] = text[-TAIL:]
    print(f"{row['result']}: {name}: {row['found']}", file=sys.stderr, flush=True)
    return row


def command_for(name: str, place: Path, tiny: bool) -> list[str]:
    call = f"from benchmarks.gpu_checks import child; child({name!r}, {str(place)!r}, {tiny})"
    return [sys.executable, "-c", call]


def rows_of(names: list[str], opts: argparse.Namespace) -> list[dict]:
    """Of these checks, in their order."""
    ends = time.monotonic() + 60 * opts.minutes
    rows = {}
    with tempfile.TemporaryDirectory(prefix="gpu_checks_", ignore_cleanup_errors=True) as name:
        folder = Path(name)

        def work(check: str) -> None:
            rows[check] = row_of(check, folder, ends, opts.tiny)

        work("env")  # all others need what it leaves
        others = [name for name in names if name != "env"]
        with ThreadPoolExecutor(1 if opts.tiny else AT_ONCE) as pool:
            list(pool.map(work, (name for name in others if not CHECKS[name].alone)))
        for check in (name for name in others if CHECKS[name].alone):
            work(check)
    return [rows[name] for name in CHECKS if name in rows]


def parse_opts(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu.py checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK")
    parser.add_argument("--minutes", type=float, default=5, help="for all of them together")
    parser.add_argument("--tiny", action="store_true", help="small enough for a CPU")
    results.add_save(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 if a check failed."""
    opts = parse_opts(argv)
    names = opts.only or list(CHECKS)
    if opts.tiny or torch.cuda.is_available():
        rows = rows_of(names, opts)
    else:
        rows = [{"check": name, "result": "not run", "found": "needs a GPU"} for name in names]
    for row in rows:
        if "log" in row:
            print(f"--- {row['check']}: the end of what it printed\n{row['log']}\n")
    print(results.table([{k: v for k, v in row.items() if k != "log"} for row in rows]), flush=True)
    results.save("gpu_checks", opts, rows)
    return any(row["result"] == "FAIL" for row in rows)


def child(name: str, folder: str, tiny: bool) -> None:
    """The check itself, in its own process."""
    device = torch.device("cpu" if tiny else "cuda")
    try:
        found, status = CHECKS[name].work(Place(Path(folder), device, tiny)), 0
    except Wrong as wrong:
        found, status = str(wrong), 1
    print(FOUND + " ".join(found.split()), flush=True)
    sys.exit(status)


if __name__ == "__main__":
    sys.exit(main())
