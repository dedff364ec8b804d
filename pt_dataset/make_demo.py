"""Write the demo data set: eight motions that only the order of frames tells apart.

    python pt_dataset/make_demo.py [--data-root videos_dataset]

The classes are four pairs. A video of the second class of a pair is drawn like one of the first and
then played backwards, so that no frame, and no set of frames without their order, says which of the
two it is.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import math
import os
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm

from config import owned, unfinished
from pt_dataset.datalist import write_list
from pt_dataset.listing.demo_videos import CLASSES, write_video

NUM_VIDEOS = {"train": 640, "test": 160}


def write_demo(data_root: Path) -> Path:
    """Writes <data-root>/demo, whole or not at all, unless it is there; returns the folder."""
    folder = data_root / "demo"
    if not folder.exists():
        with owned(folder, wait=math.inf):  # runs that start together share one
            if not folder.exists():
                write_demo_to(folder)
    return folder


def write_demo_to(folder: Path) -> None:
    temporary = unfinished(folder)
    temporary.mkdir()
    # forked, as the loader's processes are: a spawned one would import main.py, all of torch;
    # Ctrl-C reaches all processes of a terminal, and is for this one
    at_ctrl_c = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    start = "fork" if hasattr(os, "fork") and sys.platform != "darwin" else "spawn"
    pool = ProcessPoolExecutor(mp_context=get_context(start), **at_ctrl_c)
    try:
        for part, num_videos in NUM_VIDEOS.items():
            write = partial(write_video, temporary, part)
            jobs = pool.map(write, range(num_videos), chunksize=16)
            videos = list(tqdm(jobs, f"writing demo {part}", num_videos, unit="video"))
            write_list(temporary / f"{part}list01.json", videos)
        (temporary / "classes.txt").write_text("\n".join(CLASSES) + "\n")
        temporary.rename(folder)
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(temporary, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    from pt_dataset.listing.pool import exit_status

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root", type=Path, default=Path("videos_dataset"), help="folder of the data sets"
    )
    data_root = parser.parse_args(argv).data_root
    return exit_status(say_where, data_root, "nothing was written", data_root=data_root)


def say_where(data_root: Path) -> int:
    print(f"demo data set: {write_demo(data_root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
