"""How fast frames are decoded on one core, side by side in one run.

    python benchmarks/decode.py [--repeats 7]

Frames are 340x256 JPEG of quality 90, as UCF101 is usually stored. OpenCV is measured where it is
installed.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pt_dataset.sources import read_frames
from pt_dataset.transforms import crop_at, finished

NUM_FRAMES, WIDTH, HEIGHT, CROP = 64, 340, 256, 224


def write_video(folder: Path) -> list[bytes]:
    """A frame folder of cloudy pictures with grain, as large as photographs; its contents."""
    rng = np.random.default_rng(0)
    for i in range(NUM_FRAMES):
        clouds = Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 2.5, (HEIGHT, WIDTH, 1))
        picture = (np.asarray(clouds) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"image_{i + 1:05d}.jpg", quality=90)
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def decoders(files: list[bytes]) -> dict[str, Callable[[], object]]:
    """Name -> decodes every file once."""
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    rgb = torchvision.io.ImageReadMode.RGB
    found = {
        "simplejpeg": lambda: [simplejpeg.decode_jpeg(data) for data in files],
        "torchvision.io": lambda: [torchvision.io.decode_jpeg(t, mode=rgb) for t in tensors],
        "Pillow": lambda: [
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files
        ],
    }
    try:
        import cv2
    except ImportError:
        return found
    buffers = [np.frombuffer(data, np.uint8) for data in files]
    return found | {"OpenCV": lambda: [cv2.imdecode(b, cv2.IMREAD_COLOR_RGB) for b in buffers]}


def classic_clip(folder: Path) -> torch.Tensor:
    """The way of most repositories: Pillow decodes and crops each frame, floats are stacked."""
    left, top = (WIDTH - CROP) // 2, (HEIGHT - CROP) // 2
    frames = []
    for file in sorted(folder.iterdir()):
        frame = Image.open(file).convert("RGB").crop((left, top, left + CROP, top + CROP))
        frames.append(torch.from_numpy(np.asarray(frame).copy()).permute(2, 0, 1).float() / 255)
    return torch.stack(frames, dim=1)


def our_clip(folder: Path) -> torch.Tensor:
    clip = read_frames(str(folder), list(range(NUM_FRAMES)), NUM_FRAMES)
    return finished(crop_at(clip, 0.5, 0.5, CROP))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_video(folder)
        work = decoders(files) | {
            f"clip of {CROP} px crops, here": lambda: our_clip(folder),
            f"clip of {CROP} px crops, classic": lambda: classic_clip(folder),
        }
        seconds = {name: [] for name in work}
        for _ in range(repeats):  # interleaved, so that a slow moment of the machine hits all alike
            for name, run in work.items():
                started = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - started)
    kilobytes = sum(map(len, files)) / len(files) / 1000
    print(
        f"{NUM_FRAMES} frames of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB each; median of {repeats} "
        f"repeats, one core"
    )
    floor = statistics.median(seconds["simplejpeg"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:28} {NUM_FRAMES / median:7.0f} frames/s {floor / median:6.2f} of simplejpeg")


if __name__ == "__main__":
    main()
