"""How long one waits for an answer, for the first step of a training, and for a list to be read.

    python benchmarks/startup.py [--repeats 5] [--entries 1000000]

Each is a program of its own, from the command on, imports and all. What it takes to import torch is
the yardstick beside them: no training can begin sooner. Seconds are those on the clock.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import results
from pt_dataset import make_demo

TORCH = "import torch"
RUN = ("main.py", "--arch", "i3d", "--dataset", "demo")
READ = "import sys, pathlib; from pt_dataset.datalist import read_list; "
READ += "read_list(pathlib.Path(sys.argv[1]), ['a'])"


def python(*words: str | Path) -> Callable[[], object]:
    """A program of the project that runs to its end."""
    command = [sys.executable, *map(str, words)]
    return lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def first_step(folder: Path) -> None:
    """Trains on the demo set in `folder` until the first step is logged."""
    shutil.rmtree(folder / "saved_model", ignore_errors=True)
    command = [sys.executable, ROOT / RUN[0], *RUN[1:], "--data-root", folder, "--name", "run"]
    with (folder / "output").open("w+") as output:
        run = subprocess.Popen(
            [*command, "--no-visdom", "--log-every", "1"], cwd=folder, stdout=output, stderr=output
        )
        steps = folder / "saved_model" / "run" / "steps.jsonl"
        while not steps.exists() or not steps.stat().st_size:
            if run.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"the training ended before its first step: {output.read()}")
            time.sleep(0.01)
        run.kill()
        run.wait()


def write_list(path: Path, num_entries: int) -> Path:
    entry = json.dumps({"path": "frames/a", "class_name": "a", "label": 0, "num_frames": 100})
    entries = (entry.replace("frames/a", f"frames/a/video_{i:07d}") for i in range(num_entries))
    path.write_text("[" + ",\n".join(entries) + "]")
    return path


def measure(repeats: int, num_entries: int) -> list[dict]:
    """A row for each wait; lists have a hundred entries, a hundred times as many, and so on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo.write_demo(folder)
        work = {
            TORCH: python("-c", "import torch"),
            "main.py --help": python("main.py", "--help"),
            "main.py --print-config": python(*RUN, "--print-config"),
            "main.py --list-weights": python("main.py", "--list-weights"),
            "i3d on the demo set, first step": partial(first_step, folder),
        }
        count = 100
        while count <= num_entries:
            path = write_list(folder / f"{count}.json", count)
            work[f"a list of {count} entries"] = python("-c", READ, path)
            count *= 100
        seconds = results.interleaved(work, repeats)
    return [
        {
            "what": name,
            "seconds": statistics.median(times),
            "times import torch": results.ratio(times, seconds[TORCH]),
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=results.positive, default=5)
    parser.add_argument(
        "--entries", type=results.positive, default=1_000_000, help="of the longest list"
    )
    results.add_save(parser)
    opts = parser.parse_args()
    results.finish("startup", opts, measure(opts.repeats, opts.entries))


if __name__ == "__main__":
    main()
