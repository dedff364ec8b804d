"""How fast clips come, against decoding alone and the classic way, side by side in one run.

    python benchmarks/loader.py [--repeats 15] [--workers N]
    python benchmarks/loader.py --save        # also as JSON, into benchmarks/results

Frames are 340x256 JPEG of quality 90, as UCF101 is usually stored. Each line is one item of the
training set with all that a loader process does to it, from the files to the batch. Repeats are
interleaved, so that a slow moment of the machine hits all alike. On one core the time is that of
the processor, without waiting for other programs; the files are in memory after the first repeat.
"""

import argparse
import io
import os
import random
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from config import Augmentation, DatasetSpec, Loading, Preprocessing
from pt_dataset.clip_dataset import TrainClips
from pt_dataset.loader import collate, received, train_loader
from pt_dataset.processes.slots import Slots
from pt_dataset.video_list import Video, VideoList
from pt_dataset.video_lists import VideoLists

NUM_FRAMES, WIDTH, HEIGHT, CROP = 64, 340, 256, 224
CLIP = Preprocessing(clip_len=NUM_FRAMES, crop_size=CROP, mean=(0.5,) * 3, std=(0.5,) * 3)
PLAIN = Augmentation()  # a random crop of the short side of 256, and flips
SEGMENTS = replace(CLIP, clip_len=3, snippet_len=1)  # three frames spread over the video
CLIPS_A_CORE = 24  # with all cores
ALONE, CLASSIC = "decoding alone (simplejpeg)", "clip, the classic way"


def write_frames(folder: Path) -> list[bytes]:
    """Cloudy pictures with grain, as large as photographs; the contents of the files."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(NUM_FRAMES):
        clouds = Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 2.5, (HEIGHT, WIDTH, 1))
        picture = (np.asarray(clouds) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"image_{i + 1:05d}.jpg", quality=90)
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def write_zip(path: Path, frames: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(frames.iterdir()):
            packed.write(file, f"v/{file.name}")


def write_video(path: Path, files: list[bytes]) -> None:
    import av  # here and below: the frames alone need none

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 2_000_000
        for data in files:
            frame = av.VideoFrame.from_ndarray(simplejpeg.decode_jpeg(data), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode(files: list[bytes]) -> None:
    """The floor: what cannot be saved."""
    for data in files:
        simplejpeg.decode_jpeg(data)


def decode_video(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


class ClassicClips(Dataset):
    """The way of most repositories: Pillow decodes and resizes each frame, floats are stacked.

    Resizing to the size that frames have costs Pillow no more than a copy.
    """

    def __init__(self, folder: Path, count: int):
        self.files, self.count = sorted(folder.iterdir()), count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        top, left = random.randint(0, HEIGHT - CROP), random.randint(0, WIDTH - CROP)
        mirrored, frames = random.random() < 0.5, []
        for file in self.files:
            frame = Image.open(file).convert("RGB")
            frame = frame.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
            frame = frame.crop((left, top, left + CROP, top + CROP))
            if mirrored:
                frame = frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1).float().div(255)
            frames.append((pixels - 0.45) / 0.225)
        return torch.stack(frames, dim=1)


def other_decoders(files: list[bytes]) -> dict[str, Callable[[], object]]:
    """Name -> decodes every file once; OpenCV where it is installed."""
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    rgb = torchvision.io.ImageReadMode.RGB
    found = {
        "Pillow": lambda: [
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files
        ],
        "torchvision.io": lambda: [torchvision.io.decode_jpeg(t, mode=rgb) for t in tensors],
    }
    try:
        import cv2
    except ImportError:
        return found
    buffers = [np.frombuffer(data, np.uint8) for data in files]
    return found | {"OpenCV": lambda: [cv2.imdecode(b, cv2.IMREAD_COLOR_RGB) for b in buffers]}


def lists_of(video: Path | str, count: int = 1) -> VideoLists:
    videos = VideoList([Video(str(video), 0, "a", NUM_FRAMES)] * count)
    return VideoLists(DatasetSpec(title=""), ["a"], videos, videos[:1], Path(), Path(), 0)


def items(
    video: Path | str, clip: Preprocessing, augmentation: Augmentation = PLAIN
) -> tuple[int, Callable[[], object]]:
    """Makes batches of one random clip, others each time; the seeds are always the same.

    Returns:
        How many frames they have together, about NUM_FRAMES whatever `clip` is, and what makes
        them.
    """
    clips = TrainClips(lists_of(video).train, clip, augmentation, [0], seed=0)
    epochs, count = iter(range(10**9)), NUM_FRAMES // clip.clip_len
    slots = Slots(1, clips.sample_bytes())

    def make() -> None:
        for _ in range(count):
            batch = received(collate(clips.__getitems__(slots.keys([(next(epochs), 0)]))))
            assert batch.clips.shape[0] == 1

    return count * clip.clip_len, make


def one_core(folder: Path, files: list[bytes], repeats: int) -> list[dict]:
    """A row for each way to make frames of files."""
    frames, archive, video = folder / "frames", folder / "frames.zip", folder / "video.mp4"
    write_zip(archive, frames)
    write_video(video, files)
    eight = replace(SEGMENTS, clip_len=8)
    corners, classic = Augmentation(crop="corners"), ClassicClips(frames, 1)
    work = {  # name -> how many frames, what to do
        ALONE: (NUM_FRAMES, lambda: decode(files)),
        **{name: (NUM_FRAMES, run) for name, run in other_decoders(files).items()},
        CLASSIC: (NUM_FRAMES, lambda: default_collate([classic[0]])),
        "clip": items(frames, CLIP),
        "clip from a zip": items(f"{archive}/v", CLIP),
        "clip, short side 256 to 320": items(frames, CLIP, Augmentation(short_side=(256, 320))),
        "clip, any window, resized": items(frames, CLIP, Augmentation(crop="resized")),
        "3 segments": items(frames, SEGMENTS),
        "3 segments from a zip": items(f"{archive}/v", SEGMENTS),
        "3 segments, corner crops": items(frames, SEGMENTS, corners),
        "8 segments": items(frames, eight),
        "8 segments, corner crops": items(frames, eight, corners),
        "video, decoding alone (PyAV)": (NUM_FRAMES, lambda: decode_video(video)),
        "clip from a video": items(video, CLIP),
    }
    runs = {name: run for name, (_, run) in work.items()}
    seconds = {  # a frame
        name: [taken / work[name][0] for taken in times]
        for name, times in results.interleaved(runs, repeats, time.process_time).items()
    }
    return [
        {
            "what": name,
            "frames/s": 1 / statistics.median(taken),
            "of decoding alone": results.ratio(seconds[ALONE], taken),
            "times the classic way": results.ratio(seconds[CLASSIC], taken),
        }
        for name, taken in seconds.items()
    ]


def all_cores(folder: Path, files: list[bytes], workers: int) -> list[dict]:
    """Rows of batches from loaders with all their processes, beside as many that only decode."""
    count = CLIPS_A_CORE * workers
    ours = train_loader(
        lists_of(folder / "frames", count),
        CLIP,
        PLAIN,
        Loading(workers=workers),
        batch_size=4,
        seed=0,
    )
    classic = DataLoader(
        ClassicClips(folder / "frames", count), 4, num_workers=workers, persistent_workers=True
    )

    def take_all(loader: Iterable) -> None:
        for _ in loader:
            pass

    with ProcessPoolExecutor(workers) as pool:
        seconds = results.interleaved(  # the first round, not measured, starts the processes
            {
                ALONE: lambda: list(pool.map(decode, [files] * count)),
                CLASSIC: lambda: take_all(classic),
                "batches of 4 clips": lambda: take_all(ours.epoch()),
            },
            repeats=3,
        )
    return [
        {
            "what": f"{name}, {workers} processes",
            "frames/s": count * NUM_FRAMES / statistics.median(taken),
            "of decoding alone": results.ratio(seconds[ALONE], taken),
            "times the classic way": results.ratio(seconds[CLASSIC], taken),
        }
        for name, taken in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=results.positive, default=15)
    parser.add_argument("--workers", type=results.positive, default=len(os.sched_getaffinity(0)))
    results.add_save(parser)
    opts = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        files = write_frames(Path(name) / "frames")
        kilobytes = sum(map(len, files)) / len(files) / 1000
        rows = one_core(Path(name), files, opts.repeats)
        rows += all_cores(Path(name), files, opts.workers)
    print(f"frames of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB each; medians of {opts.repeats}")
    results.finish("loader", opts, rows)


if __name__ == "__main__":
    main()
