"""How much the networks learn of a small real set: UT-Interaction, four folds by recording.

    python pt_dataset/extract_frames.py VIDEOS FRAMES --short-side 128
    folds="--group-regex seq\\d+ --folds 4"
    python pt_dataset/make_json.py folder ut FRAMES $folds
    python pt_dataset/make_json.py folder ut_tuning FRAMES $folds --seed 1
    python benchmarks/small.py                                 # --recipe small, as reported
    python benchmarks/small.py --dataset ut_tuning --archs i3d --seeds 0 -- --lr 0.0005 --epochs 30

Options are chosen on `ut_tuning`, another division of the same recordings into folds, and reported
on `ut`. What follows -- are options of main.py. Each fold of each seed is a run of its own, below
--out; one that is done is not done again, and one that was stopped goes on. Their checkpoints are
removed. Top-1 is over the videos of all folds, once for each seed; minutes are those of its folds
added up, with as many --jobs at once.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from config import ARCHS, RUNS


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", type=Path, default="videos_dataset", metavar="DIR")
    parser.add_argument("--dataset", default="ut", metavar="NAME")
    parser.add_argument("--archs", nargs="+", default=list(ARCHS), choices=ARCHS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument(
        "--jobs", type=results.positive, default=1, metavar="N", help="runs at once"
    )
    parser.add_argument("--out", type=Path, default="small", metavar="DIR", help="folder of runs")
    parser.add_argument("--folds", nargs="+", type=int, default=[1, 2, 3, 4], metavar="N")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of main.py, after --")
    results.add_save(parser)
    return parser


def run_fold(args: argparse.Namespace, arch: str, seed: int, fold: int) -> Path:
    """The folder of a run, which has a result.json if it has come to its end."""
    words = re.sub(r"[^\w.]+", "-", " ".join(args.options))[-150:]
    folder = args.out / RUNS / f"{arch}_{args.dataset}_{fold}_seed{seed}{words}"
    if not (folder / "result.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, results.ROOT / "main.py", "--recipe", "small", "--arch", arch]
        command += ["--dataset", args.dataset, "--data-root", args.data_root.resolve()]
        command += ["--split", fold, "--seed", seed, "--name", folder.name, "--resume", "auto"]
        command += ["--no-visdom", "--workers", "1", *args.options]
        threads = str(max(1, len(os.sched_getaffinity(0)) // args.jobs))
        began = time.perf_counter()
        with open(f"{folder}.txt", "w") as output:
            status = subprocess.run(
                [str(word) for word in command],
                cwd=args.out,
                env={"OMP_NUM_THREADS": threads} | os.environ,
                stdout=output,
                stderr=output,
            ).returncode
        if status:
            print(f"status {status}, see {output.name}", file=sys.stderr)
        else:
            minutes = (time.perf_counter() - began) / 60
            (folder / "minutes.txt").write_text(f"{minutes:.2f}\n")
            for path in folder.glob("*.pth"):
                path.unlink()
    return folder


def summed_up(arch: str, folders: dict[int, list[Path]]) -> dict[str, object] | None:
    """A row of the table; None where folds are missing.

    Args:
        folders: of the folds, by seed.
    """
    top1, minutes = [], []
    for folds in folders.values():
        paths = [folder / "result.json" for folder in folds]
        if not all(path.exists() for path in paths):
            return None
        found = [json.loads(path.read_text()) for path in paths]
        num_videos = sum(result["num_videos"] for result in found)
        top1.append(sum(result["top1"] * result["num_videos"] for result in found) / num_videos)
        minutes.append(sum(float((folder / "minutes.txt").read_text()) for folder in folds))
    return {
        "network": arch,
        "top-1": round(statistics.mean(top1), 1),
        "deviation": round(statistics.stdev(top1), 1) if len(top1) > 1 else "",
        "of the seeds": " ".join(f"{value:.1f}" for value in top1),
        "minutes": round(statistics.mean(minutes), 1),
    }


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with ThreadPoolExecutor(args.jobs) as pool:
        start = partial(pool.submit, run_fold, args)
        running = {
            arch: {seed: [start(arch, seed, fold) for fold in args.folds] for seed in args.seeds}
            for arch in args.archs
        }
        rows = []
        for arch, seeds in running.items():
            done = {seed: [run.result() for run in folds] for seed, folds in seeds.items()}
            if row := summed_up(arch, done):
                rows.append(row)
    results.finish("small", args, rows)


if __name__ == "__main__":
    main()
