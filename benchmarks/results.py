"""What the benchmarks share: fair repeats, the machine they ran on, and files of results.

A result is a JSON file `<date>_<name>.json`: what was measured, with which options, on which
machine, and rows, one for each line of the table that was printed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"


def positive(text: str) -> int:
    """The type of options such as --repeats."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def add_save(parser: argparse.ArgumentParser) -> None:
    """`--save [FOLDER]`: a benchmark writes nothing unless it is asked to."""
    parser.add_argument(
        "--save",
        nargs="?",
        type=Path,
        const=FOLDER,
        metavar="FOLDER",
        help="write the result as JSON there (without FOLDER: benchmarks/results)",
    )


def interleaved(
    work: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
    sync: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Each work in turn, `repeats` times over, so that a slow moment hits all of them alike.

    Args:
        work: name -> what to do; once before, unmeasured, to warm up.
        clock: seconds; `time.process_time` leaves out the time that other programs take.
        sync: waits until the device has done what it was told.

    Returns:
        Name -> seconds of each repeat.
    """
    seconds = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, run in work.items():
            sync()
            started = clock()
            run()
            sync()
            if repeat:
                seconds[name].append(clock() - started)
    return seconds


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median of the ratios within each repeat: what the machine did meanwhile cancels out."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(above / below for above, below in pairs)


def environment() -> dict[str, str | int]:
    """Hardware and versions, without which a figure says nothing."""
    import torch
    import torchvision

    found = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def commit() -> str:
    """Of the code that was measured, "-dirty" where files differ; "" outside a clone."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def cpu_name() -> str:
    """As the kernel names it; a virtual machine may hide the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return name or platform.processor()


def table(rows: list[dict]) -> str:
    """Markdown; a float is shown with three digits, a column is named as its key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names)]
    lines += [[_shown(row.get(name, "")) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def finish(name: str, opts: argparse.Namespace, rows: list[dict]) -> None:
    """Prints the table and, with `--save`, writes it."""
    print(table(rows), flush=True)
    save(name, opts, rows)


def save(name: str, opts: argparse.Namespace, rows: list[dict]) -> None:
    """Writes the rows with the options and the machine, where `--save` asks for it."""
    if opts.save is None:
        return
    machine = environment()
    # folders are of one machine, and change no figure
    options = {key: value for key, value in vars(opts).items() if not isinstance(value, Path)}
    result = {"benchmark": name, "options": options, "environment": machine, "rows": rows}
    opts.save.mkdir(parents=True, exist_ok=True)
    path = opts.save / f"{machine['date']}_{name}.json"
    path.write_text(json.dumps(result, indent=1, default=str) + "\n")
    print(f"written: {path}")


def last(name: str, folder: Path = FOLDER) -> dict | None:
    """The newest result of that name; None where none was ever saved."""
    found = sorted(folder.glob(f"????-??-??_{name}.json"))
    return json.loads(found[-1].read_text()) if found else None
