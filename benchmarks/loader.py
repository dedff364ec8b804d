"""How fast clips come, against decoding alone and the classic way, side by side in one run.

    python benchmarks/loader.py [--repeats 15] [--workers N]
    python benchmarks/loader.py --save        # also as JSON, into benchmarks/results

Frames are 340x256 JPEG of quality 90, as UCF101 is usually stored. Each line is one item of the
training set with all that a loader process does to it, from the files to the batch; beside it stand
MMAction2's way with OpenCV and, where they are installed, TorchCodec and decord. Repeats are
interleaved, so that a slow moment of the machine hits all alike. On one core the time is that of
the processor, without waiting for other programs; the files are in memory after the first repeat.
"""

import argparse
import contextlib
import io
import os
import random
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
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
from pt_dataset.processes.memory import keep_freed_memory
from pt_dataset.processes.slots import Slots
from pt_dataset.shrink_videos import write_shrunk
from pt_dataset.transforms import training_crop
from pt_dataset.video_list import Video, VideoList
from pt_dataset.video_lists import VideoLists

NUM_FRAMES, WIDTH, HEIGHT, CROP = 64, 340, 256, 224
CLIP = Preprocessing(clip_len=NUM_FRAMES, crop_size=CROP, mean=(0.5,) * 3, std=(0.5,) * 3)
PLAIN = Augmentation()  # a random crop of the short side of 256, and flips
SEGMENTS = replace(CLIP, clip_len=3, snippet_len=1)  # three frames spread over the video
CORNERS, RESIZED = Augmentation(crop="corners"), Augmentation(crop="resized")
JITTERED = Augmentation(short_side=(256, 320))
CLIPS_A_CORE = 24  # with all cores
LONG = 240  # frames of a video as long as those of Kinetics
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


def write_video(path: Path, files: list[bytes], codec: str = "mpeg4", count: int = 0) -> None:
    """`count` frames, or each file once."""
    import av  # here and below: the frames alone need none

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 2_000_000
        for i in range(count or len(files)):
            # a scene of 30 frames that moves to the right
            picture = np.roll(simplejpeg.decode_jpeg(files[i // 30 if count else i]), i % 30, 1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_videos(folder: Path, files: list[bytes]) -> Iterator[tuple[str, Path, int]]:
    """What to call clips from it, path and length: a small one, one like Kinetics', that shrunk."""
    path = folder / "video.mp4"
    write_video(path, files)
    yield "clip from a video", path, NUM_FRAMES
    path = folder / "long.mp4"
    with contextlib.suppress(ValueError):  # not every FFmpeg comes with x264
        write_video(path, files, "libx264", LONG)
        yield f"clip from {LONG} frames of H.264", path, LONG
        shrunk = folder / "shrunk.mp4"
        write_shrunk(path, shrunk, {"short_side": HEIGHT})
        yield "clip from the same, shrunk", shrunk, LONG


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


def opencv_way(
    folder: Path, clip: Preprocessing, augmentation: Augmentation
) -> Callable[[], object] | None:
    """MMAction2's: OpenCV decodes all frames, then resizes all, and they are cut and stacked.

    None where OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    files, rng = sorted(map(str, folder.iterdir())), random.Random(0)

    def clip_of() -> torch.Tensor:
        start = rng.randrange(NUM_FRAMES // clip.clip_len)
        chosen = files[start :: NUM_FRAMES // clip.clip_len][: clip.clip_len]
        frames = []
        for file in chosen:
            data = np.frombuffer(Path(file).read_bytes(), np.uint8)
            frame = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, frame))
        crops = training_crop(HEIGHT, WIDTH, clip, augmentation, rng)
        frames = [frame[crops.part] for frame in frames]
        if frames[0].shape[:2] != crops.size:
            frames = [cv2.resize(frame, crops.size[::-1]) for frame in frames]
        frames = [frame[crops.windows[0]] for frame in frames]
        if rng.random() < 0.5:
            frames = [cv2.flip(frame, 1) for frame in frames]
        return torch.from_numpy(np.ascontiguousarray(np.stack(frames).transpose(3, 0, 1, 2)))

    def make() -> None:
        for _ in range(NUM_FRAMES // clip.clip_len):
            default_collate([clip_of()])

    return make


def other_video_decoders(path: Path, length: int) -> dict[str, Callable[[], object]]:
    """Name -> decodes NUM_FRAMES frames from a random place on with one thread."""
    rng, found = random.Random(0), {}

    def start() -> int:
        return rng.randrange(length - NUM_FRAMES + 1)

    # whatever is missing: TorchCodec needs an FFmpeg of the system
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from torchcodec.decoders import VideoDecoder

        def torchcodec() -> None:
            first = start()
            VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)[
                first : first + NUM_FRAMES
            ]

        found["TorchCodec"] = torchcodec
    with contextlib.suppress(ImportError, OSError):
        import decord

        def by_decord() -> None:
            first, reader = start(), decord.VideoReader(str(path), num_threads=1)
            reader.get_batch(range(first, first + NUM_FRAMES)).asnumpy()

        found["decord"] = by_decord
    return found


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


def lists_of(video: Path | str, count: int = 1, length: int = NUM_FRAMES) -> VideoLists:
    videos = VideoList([Video(str(video), 0, "a", length)] * count)
    return VideoLists(DatasetSpec(title=""), ["a"], videos, videos[:1], Path(), Path(), 0)


def items(
    video: Path | str,
    clip: Preprocessing,
    augmentation: Augmentation = PLAIN,
    length: int = NUM_FRAMES,
) -> tuple[int, Callable[[], object]]:
    """Makes batches of one random clip, others each time; the seeds are always the same.

    Returns:
        How many frames they have together, about NUM_FRAMES whatever `clip` is, and what makes
        them.
    """
    clips = TrainClips(lists_of(video, 1, length).train, clip, augmentation, [0], seed=0)
    epochs, count = iter(range(10**9)), NUM_FRAMES // clip.clip_len
    slots = Slots(1, clips.sample_bytes())

    def make() -> None:
        for _ in range(count):
            batch = received(collate(clips.__getitems__(slots.keys([(next(epochs), 0)]))))
            assert batch.clips.shape[0] == 1

    return count * clip.clip_len, make


def from_frames(folder: Path) -> tuple[dict, dict]:
    """Name -> frames and what to do, of ours; name -> what to do, of MMAction2's way."""
    frames, eight = folder / "frames", replace(SEGMENTS, clip_len=8)
    ways = {
        "clip": (CLIP, PLAIN),
        "clip, short side 256 to 320": (CLIP, JITTERED),
        "clip, any window, resized": (CLIP, RESIZED),
        "3 segments": (SEGMENTS, PLAIN),
        "3 segments, corner crops": (SEGMENTS, CORNERS),
        "8 segments": (eight, PLAIN),
        "8 segments, corner crops": (eight, CORNERS),
    }
    others = {name: run for name, way in ways.items() if (run := opencv_way(frames, *way))}
    return {name: items(frames, *way) for name, way in ways.items()}, others


def from_videos(folder: Path, files: list[bytes]) -> dict:
    """Name -> frames and what to do, of ours and of other decoders."""
    work = {}
    for name, path, length in write_videos(folder, files):
        work[f"{name}, decoding alone (PyAV)"] = length, partial(decode_video, path)
        work[name] = items(path, CLIP, length=length)
        for decoder, run in other_video_decoders(path, length).items():
            work[f"{name}, {decoder}"] = NUM_FRAMES, run
    return work


def one_core(folder: Path, files: list[bytes], repeats: int) -> list[dict]:
    """A row for each way to make frames of files."""
    frames, archive = folder / "frames", folder / "frames.zip"
    write_zip(archive, frames)
    classic = ClassicClips(frames, 1)
    ours, opencv = from_frames(folder)
    work = {  # name -> how many frames, what to do
        ALONE: (NUM_FRAMES, lambda: decode(files)),
        **{name: (NUM_FRAMES, run) for name, run in other_decoders(files).items()},
        CLASSIC: (NUM_FRAMES, lambda: default_collate([classic[0]])),
        **ours,
        "clip from a zip": items(f"{archive}/v", CLIP),
        "3 segments from a zip": items(f"{archive}/v", SEGMENTS),
        **from_videos(folder, files),
        **{f"{name}, MMAction2's way": (ours[name][0], run) for name, run in opencv.items()},
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
            "times MMAction2's way": results.ratio(seconds[f"{name}, MMAction2's way"], taken)
            if name in opencv
            else "",
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
    keep_freed_memory()  # as loader processes do
    with tempfile.TemporaryDirectory() as name:
        files = write_frames(Path(name) / "frames")
        kilobytes = sum(map(len, files)) / len(files) / 1000
        rows = one_core(Path(name), files, opts.repeats)
        rows += all_cores(Path(name), files, opts.workers)
    print(f"frames of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB each; medians of {opts.repeats}")
    results.finish("loader", opts, rows)


if __name__ == "__main__":
    main()
