"""Writes what lies beside it from the reference data in full, which is not part of the project.

    python -m tests.golden.compress REFERENCE

REFERENCE has checkpoints/FORMAT.json (`keys`, `parameters` and `golden`, see README.md) and, where
the lists are to be written anew, classes/NAME.txt and the published datalists/*.json.
"""

import argparse
import gzip
import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from tests.golden import CLASS_FILES, DIGESTS, FOLDER

VIDEO = re.compile(r"v_(\w+)_g(\d\d)_c(\d\d)")
KINETICS = {
    "kinetics400_val": "kinetics400_val_datalist.json",
    "kinetics200_val": "kinetics200_val_datalist_200.json",
}


def compress_logits(path: Path) -> None:
    """FORMAT.json -> checkpoints/FORMAT.npz, with logits as float32."""
    reference = json.loads(path.read_text())
    (golden,) = reference["golden"]
    logits = {
        name.removeprefix("logits_"): np.array(golden.pop(name), dtype=np.float32)
        for name in list(golden)
        if name.startswith("logits_")
    }
    about = {"keys": reference["keys"], "num_parameters": reference["parameters"]} | golden
    data = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    np.savez_compressed(FOLDER / "checkpoints" / f"{path.stem}.npz", about=data, **logits)


def compress_ucf101(folder: Path) -> None:
    """The clips of each class and group, and the frames of each clip: the lists follow."""
    classes = (CLASS_FILES / "ucf101" / "classes.txt").read_text().splitlines()
    labels = {name.lower(): label for label, name in enumerate(classes)}
    num_frames = {}
    for side in ("train", "test"):
        for entry in json.loads((folder / f"ucf101_{side}list01.json").read_text()):
            title, group, clip = VIDEO.fullmatch(Path(entry["path"]).name).groups()
            num_frames[labels[title.lower()], int(group) - 1, int(clip)] = entry["num_frames"]
    num_clips = np.zeros((101, 25), dtype=np.uint8)
    for label, group, _ in num_frames:
        num_clips[label, group] += 1
    frames = np.array([num_frames[key] for key in sorted(num_frames)], dtype=np.uint16)
    np.savez_compressed(FOLDER / "ucf101.npz", num_clips=num_clips, num_frames=frames)


def compress_kinetics(path: Path, target: Path) -> None:
    """Of each class the first entry, and the first whose id begins with - or _, if there is one."""
    by_class = defaultdict(list)
    for entry in json.loads(path.read_text()):
        by_class[entry["class_name"]].append(entry)
    chosen = []
    for first, *others in by_class.values():
        odd = [entry for entry in others if Path(entry["path"]).name[0] in "-_"]
        chosen += [first, *odd[:1]]
    target.write_bytes(gzip.compress(json.dumps(chosen).encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reference", type=Path, metavar="REFERENCE")
    reference = parser.parse_args().reference
    for path in (reference / "checkpoints").glob("*.json"):
        compress_logits(path)
    lists = reference / "datalists"
    if not lists.exists():
        return
    compress_ucf101(lists)
    for name, file in KINETICS.items():
        compress_kinetics(lists / file, FOLDER / f"{name}.json.gz")
    files = [*(reference / "classes").glob("*.txt"), *lists.glob("ucf101_*.json")]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    DIGESTS.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
