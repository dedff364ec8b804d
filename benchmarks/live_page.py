"""What the live page costs a training loop, whatever state visdom's server is in.

    python benchmarks/live_page.py [--step 0.1] [--points 20000] [--seconds 10]

Steps that log every time, after so many points. Of the training's own thread the time spent in the
logger is counted, of the page's thread the processor time: it can hold up the other for no longer.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.live_page import assets
from utils.live_page import server as visdom_server
from utils.live_page.logger import Visdom

METRICS = {"train/loss": 1.0, "train/top1": 50.0, "train/top5": 80.0, "lr": 0.1}
METRICS |= {"time/data": 0.01, "time/copy": 0.0, "time/compute": 0.1, "clips_per_s": 100.0}


def run_folder(root: Path, num_points: int) -> Path:
    """The folder of a run that has logged so often."""
    folder = root / "saved_model" / "run"
    folder.mkdir(parents=True)
    (folder / "options.json").write_text(json.dumps({f"option_{i}": i for i in range(50)}))
    lines = (METRICS | {"step": i, "epoch": i / 1000} for i in range(1, num_points + 1))
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def cost(logger: Visdom, step: float, seconds: float, first: int) -> tuple[float, float]:
    """Percent of the time that the logger takes in this thread, and at most by its own."""
    clock = time.pthread_getcpuclockid(logger.page._thread.ident)
    cpu, began, spent, i = time.clock_gettime(clock), time.perf_counter(), 0.0, first
    while time.perf_counter() - began < seconds:
        time.sleep(step)  # the step
        i += 1
        started = time.perf_counter()
        logger.log_steps(METRICS | {"step": i, "epoch": i / 1000})
        spent += time.perf_counter() - started
    total = time.perf_counter() - began
    return 100 * spent / total, 100 * (time.clock_gettime(clock) - cpu) / total


def main() -> None:
    """Print one line a state of the server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=float, default=0.1, help="seconds")
    parser.add_argument("--points", type=int, default=20_000, help="that are there already")
    parser.add_argument("--seconds", type=float, default=10, help="for each state of the server")
    parser.add_argument("--port", type=int, default=8199)
    opts = parser.parse_args()
    if assets.visdom_folder() is None:
        sys.exit(f"visdom is not installed: {assets.INSTALL}")
    with tempfile.TemporaryDirectory() as root:
        folder = run_folder(Path(root), opts.points)
        server = visdom_server.start(opts.port, Path(root))
        try:
            while not visdom_server.is_visdom("127.0.0.1", opts.port, 1.0):
                time.sleep(0.1)
            logger = Visdom(folder, "127.0.0.1", opts.port, None, say=lambda sentence: None)
            logger.page.wait_until_shown()
            for state in ("answers", "hangs", "is dead"):
                if state == "hangs":
                    server.send_signal(signal.SIGSTOP)
                if state == "is dead":
                    server.kill()
                own, page = cost(logger, opts.step, opts.seconds, opts.points)
                print(f"server {state:8}: {own:.3f} % in the loop, {page:.3f} % in the thread")
            logger.close()
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
