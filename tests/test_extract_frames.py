import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from PIL import Image

from pt_dataset import extract_frames
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.listing.find_videos import find_videos, measure_videos
from pt_dataset.listing.folders import result_folders

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"
TOOL = [sys.executable, str(ROOT / "pt_dataset" / "extract_frames.py")]
AS_STORED = {"short_side": 0, "fps": None, "quality": 95}


def level(i):
    """Gray of frame i: far enough from its neighbors to survive two lossy codecs."""
    return 20 + 10 * i


def write_video(
    path, count=20, size=(64, 48), codec="mpeg4", rate=30, times=None, picture=None, **options
):
    """A video of gray frames, or of `picture`; `times` are in seconds, `options` the codec's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options |= {"bf": "2"} if codec in ("mpeg4", "libx264") else {}
    options |= {"qmax": "3"} if codec == "mpeg4" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count):
            pixels = np.full((size[1], size[0], 3), level(i) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels if picture is None else picture)
            if times:
                frame.time_base, frame.pts = Fraction(1, 1000), round(times[i] * 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def extracted(video, folder, **settings):
    """Pictures of the frames of `video`, (T, H, W, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    count, *_ = extract_frames.write_frames(video, folder, AS_STORED | settings)
    names = frame_names(folder)
    assert count == len(names)
    assert names[0] == "image_00001.jpg"
    return np.stack([np.asarray(Image.open(folder / name)) for name in names])


def levels(frames):
    """Which frames these are, by their gray."""
    return [round((frame.mean() - level(0)) / 10) for frame in frames]


def tree(folder):
    """Contents of all files below `folder` by relative path, but of notes in any order."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = (path for path in files if path.suffix != ".jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run(*args, **kwargs):
    return subprocess.run([*TOOL, *map(str, args)], capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize(
    "name, codec",
    [
        ("a.avi", "mpeg4"),  # stores no presentation times
        ("a.avi", "libx264"),  # and those that are guessed are out of order
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),  # times rounded to ms
        ("a.webm", "libvpx-vp9"),
    ],
)
@pytest.mark.parametrize("fps", [None, "30"])
def test_every_frame_is_written_once_and_in_order(tmp_path, name, codec, fps):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    video = write_video(tmp_path / name, codec=codec)
    assert levels(extracted(video, tmp_path / "out", fps=fps)) == list(range(20))


@pytest.mark.parametrize(
    "times, fps, expected",
    [
        ([0, 0.1, 0.2, 0.3], "10", [0, 1, 2, 3]),
        ([0, 0.1, 0.2, 0.3], "20", [0, 0, 1, 1, 2, 2, 3]),  # the last is on screen for 1/30 s
        ([0, 0.1, 0.2, 0.3], "5", [0, 2]),
        ([5, 5.1, 5.2, 5.3], "5", [0, 2]),  # counted from the first frame
        ([0, 0.04, 0.3, 0.5], "10", [0, 1, 1, 2, 2, 3]),  # the last one at or before each tick
        ([0, 0.033, 0.067, 0.1], "30", [0, 1, 2, 3]),  # 0.067 is 2/30, rounded
    ],
)
def test_fps_takes_the_frame_on_screen_at_each_tick(tmp_path, times, fps, expected):
    video = write_video(tmp_path / "a.mkv", count=4, times=times)
    assert levels(extracted(video, tmp_path / "out", fps=fps)) == expected


def test_a_single_frame_without_duration_is_written_at_any_rate():
    still = [(Fraction(0), "frame"), (Fraction(0), None)]
    for fps in (None, Fraction(1, 10), Fraction(30)):
        assert list(extract_frames.at_rate(iter(still), fps)) == [("frame", 1)]


@pytest.mark.parametrize(
    "size, short_side, expected",
    [
        ((65, 49), 0, (65, 49)),  # odd sizes stay
        ((64, 48), 256, (341, 256)),
        ((65, 49), 33, (44, 33)),
        ((48, 64), 24, (24, 32)),  # upright
    ],
)
def test_frames_have_exactly_the_short_side(tmp_path, size, short_side, expected):
    video = write_video(tmp_path / "a.mkv", count=2, size=size)
    width, height = expected
    assert extracted(video, tmp_path / "out", short_side=short_side).shape == (2, height, width, 3)


def jpeg_of(frame, size, quality):
    data = extract_frames.encode_jpeg(frame, size, quality, VideoReformatter())
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_the_edge_of_an_odd_picture_is_its_own():
    ramp = np.linspace(255, 0, 49)[:, None] + np.linspace(0, 255, 65)  # a row starts the darkest
    pixels = np.repeat((ramp / 2).astype(np.uint8)[:, :, None], 3, axis=2)
    error = np.abs(jpeg_of(av.VideoFrame.from_ndarray(pixels), (65, 49), quality=20) - pixels)
    assert max(error[:, -1].mean(), error[-1].mean()) < 5


COLOR_SPACES = [(5, 0.299, 0.114), (1, 0.2126, 0.0722)]  # BT.601 of old videos, BT.709 of HD ones


def frame_of(color, color_space, red_weight, blue_weight):
    """A frame of 64x48 of one color, stored with those weights."""
    red, green, blue = color
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    u, v = (blue - luma) / (1 - blue_weight) / 2, (red - luma) / (1 - red_weight) / 2
    planes = np.repeat(
        [16 + luma * 219 / 255, 128 + u * 224 / 255, 128 + v * 224 / 255],
        [64 * 48, 32 * 24, 32 * 24],
    )
    frame = av.VideoFrame.from_ndarray(planes.round().astype(np.uint8).reshape(72, 64), "yuv420p")
    frame.colorspace, frame.color_range = color_space, 1
    return frame


@pytest.mark.parametrize("color_space, red_weight, blue_weight", COLOR_SPACES)
def test_colors_survive(color_space, red_weight, blue_weight):
    color = (200, 30, 40)
    frame = frame_of(color, color_space, red_weight, blue_weight)
    assert np.abs(jpeg_of(frame, (80, 60), quality=95) - color).max() <= 4


ROTATIONS = [
    ((0, 1, -1, 0), (64, 48), np.s_[:24]),  # a phone held upright: clockwise
    ((0, -1, 1, 0), (64, 48), np.s_[40:]),
    ((-1, 0, 0, -1), (48, 64), np.s_[:, 40:]),
    ((1, 0, 0, 1), (48, 64), np.s_[:, :24]),
]


@pytest.mark.parametrize("matrix, shape, dark", ROTATIONS)
def test_a_rotated_video_is_turned_upright(tmp_path, matrix, shape, dark):
    video = write_rotated(tmp_path / "a.mp4", matrix)
    frame = extracted(video, tmp_path / "out")[0]
    assert frame.shape == (*shape, 3)
    assert frame[dark].max() < 70
    assert frame.mean() > 100


def write_rotated(video, matrix):
    """A video, dark on the left as it is stored, that says by which matrix to turn it."""
    picture = np.full((48, 64, 3), 200, np.uint8)
    picture[:, :32] = 50
    write_video(video, count=3, picture=picture)
    data = bytearray(video.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version, times, id, duration, layer, volume
    a, b, c, d = matrix
    for i, value in enumerate((a, b, 0, c, d, 0)):
        data[start + 4 * i : start + 4 * i + 4] = (value << 16).to_bytes(4, "big", signed=True)
    video.write_bytes(data)
    return video


def cut_off(video, part):
    """The first `part` of a file of noise, which leaves it frames before the cut."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = write_video(video, count=60, picture=noise).read_bytes()
    video.write_bytes(data[: int(len(data) * part)])
    return video


BROKEN = {
    "empty.mp4": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text.mp4": (lambda path: path.write_text("no video\n" * 99), "Invalid data"),
    "sound.mp4": (write_audio, "no video stream"),
    "cut.mp4": (lambda path: cut_off(path, 0.7), "Invalid data|no video stream"),
    "link.mp4": (lambda path: path.symlink_to("nowhere"), "No such file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_video_has_a_reason(tmp_path, name):
    write, reason = BROKEN[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=reason):
        extract_frames.write_frames(tmp_path / name, tmp_path, AS_STORED)


def test_frame_folders_are_the_names_without_suffix_unless_taken():
    videos = ["a.mp4", "a/b.avi", "a/b.mp4", "a/b.mp4.mkv", "c.1.avi", "d/e/f.mov"]
    folders = result_folders([Path(video) for video in videos])
    assert {str(video): str(folder) for video, folder in folders.items()} == {
        "a.mp4": "a.mp4",  # a has videos in it
        "a/b.avi": "a/b",
        "a/b.mp4": "a/b.mp4",  # as a/b is taken
        "a/b.mp4.mkv": "a/b.mp4.mkv",  # as a/b.mp4 is taken
        "c.1.avi": "c.1",
        "d/e/f.mov": "d/e/f",
    }


def test_a_whole_tree_is_extracted_and_what_is_broken_is_named(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "src" / "frames"  # DST in SRC is not walked into
    for name in ("wave/two words.avi", "wave/\u00fcber.MP4", "run/deep/x.mkv", "flat.avi"):
        write_video(src / name, count=3)
    (src / "loop").symlink_to(src)
    (src / "wave" / "notes.txt").write_text("no video")
    (src / "wave" / "._two words.avi").write_bytes(b"of a Mac")
    for name, (write, _) in BROKEN.items():
        write(src / name)
    stale = dst / "wave" / ".two words.c0ffee01-1-0.partial"  # of a process that was killed
    stale.mkdir(parents=True)
    (stale / "image_00001.jpg").write_bytes(b"half")
    (dst / ".lock").write_text("process 1 on there\nc0ffee01")

    done = run(src, dst, "--workers", 2, "--short-side", 32, cwd=tmp_path)
    assert done.returncode == 1
    assert "4 videos extracted (12 frames), 0 finished before, 5 broken, 2 other" in done.stdout
    assert f"make_json.py folder NAME {dst}" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("broken: ")]
    assert [line.split()[1].rstrip(":") for line in lines] == sorted(
        str(src / name) for name in BROKEN
    )
    assert "Traceback" not in done.stderr
    frames = [f"image_0000{i}.jpg" for i in (1, 2, 3)]
    folders = ("flat", "run/deep/x", "wave/two words", "wave/\u00fcber")
    files = {f"{folder}/{frame}" for folder in folders for frame in frames}
    assert set(tree(dst)) == files | {"extract_frames.json"}
    assert json.loads((dst / "extract_frames.json").read_text())["short_side"] == 32

    before = {path: path.stat().st_mtime_ns for path in dst.rglob("*.jpg")}
    for name in BROKEN:
        (src / name).unlink()
    done = run(src, dst, "--workers", 2, "--short-side", 32)
    assert done.returncode == 0
    assert "0 videos extracted (0 frames), 4 finished before, 0 broken" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in dst.rglob("*.jpg")} == before


def rates(frames):
    found = find_videos(frames)
    videos, problems = measure_videos(found, sorted(found.paths), {})
    assert not problems
    return {name: video.fps for name, video in videos.items()}


def test_frames_have_the_rate_of_their_video_unless_it_is_uneven_or_they_are_others(tmp_path):
    src, dst = tmp_path / "videos", tmp_path / "frames" / "train"
    write_video(src / "a" / "pal.mp4", codec="libx264", rate=25)
    write_video(src / "a" / "ntsc.mkv", codec="libx264", rate=Fraction(30000, 1001))
    write_video(src / "uneven.mkv", codec="libx264", times=[0.04 * i * i for i in range(20)])
    for name in ("b/cut.avi", "b/twice.avi"):
        write_video(src / name, rate=15)
    assert extract_frames.main([str(src), str(dst), "--workers", "1"]) == 0
    (dst / "b" / "cut" / "image_00020.jpg").unlink()
    write_video(src / "b" / "twice.avi", rate=10)
    assert extract_frames.main([str(src), str(dst), "--workers", "1"]) == 0  # made again
    known = {"a/pal": 25, "a/ntsc": pytest.approx(29.97, abs=0.01), "b/twice": 10}
    expected = known | {"uneven": None, "b/cut": None}
    assert rates(dst) == expected
    assert rates(dst / "a") == {"pal": 25, "ntsc": known["a/ntsc"]}
    assert (rates(dst / "a" / "pal"), rates(dst / "b" / "cut")) == ({"": 25}, {"": None})
    assert rates(dst.parent) == {f"train/{name}": fps for name, fps in expected.items()}
    (dst / "extract_frames.sources.jsonl").write_text('["a/pal", {"num_frames": 20, "fps": NaN}]')
    assert set(rates(dst).values()) == {None}
    assert extract_frames.main([str(src), str(tmp_path / "five"), "--fps", "5"]) == 0
    assert set(rates(tmp_path / "five").values()) == {5}


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, sign):
    src, dst = tmp_path / "src", tmp_path / "dst"
    video = write_video(src / "a" / "0.avi", count=200, size=(65, 49))
    for i in range(1, 6):
        (src / "a" / f"{i}.avi").symlink_to(video)
    args = [*TOOL, src, dst, "--workers", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(args, start_new_session=True, **pipes) as process:
        while not (dst / "a" / "0").exists() and not (dst / "a" / "1").exists():
            assert process.poll() is None
            time.sleep(0.01)
        if sign == signal.SIGINT:
            os.killpg(process.pid, sign)  # as a terminal does
        else:
            process.kill()  # its workers are on their own
        errors = process.communicate(timeout=10)[1]  # returns when the workers are gone, too
    finished = [path for path in (dst / "a").iterdir() if path.name[0] != "."]
    assert 1 <= len(finished) < 6
    assert all(len(frame_names(folder)) == 200 for folder in finished)
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1].startswith("stopped; ")
        assert "Traceback" not in errors
        assert not list(dst.glob("a/.*"))

    assert run(src, dst).returncode == 0
    assert run(src, tmp_path / "whole").returncode == 0
    assert tree(dst) == tree(tmp_path / "whole")


def test_a_full_disk_is_one_sentence(tmp_path):
    write_video(tmp_path / "src" / "a.avi", count=3)

    def no_large_files():  # a write past the limit fails like one to a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = run(tmp_path / "src", tmp_path / "dst", "--workers", 1, preexec_fn=no_large_files)
    assert done.returncode == 1
    assert "error: " in done.stderr.splitlines()[-1]
    assert "too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert set(tree(tmp_path / "dst")) == {"extract_frames.json"}


def test_other_settings_are_refused(tmp_path, capsys):
    write_video(tmp_path / "src" / "a.avi", count=3)
    (tmp_path / "dst" / "a").mkdir(parents=True)
    args = [str(tmp_path / "src"), str(tmp_path / "dst")]
    assert extract_frames.main(args) == 1
    assert "has frames of another origin" in capsys.readouterr().err
    settings = {"short_side": 256, "fps": "25/2", "quality": 90}
    (tmp_path / "dst" / "extract_frames.json").write_text(json.dumps(settings))
    assert extract_frames.main(args) == 1
    assert 'has frames made with {"short_side": 256, "fps": "25/2"' in capsys.readouterr().err
    assert extract_frames.main([*args, "--fps", "12.5"]) == 0


def test_mistakes_are_one_sentence(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "notes.txt").write_text("no video")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.avi", count=1)
    for src, dst, message in (
        ("nowhere", "dst", "is no folder"),
        ("src", "dst", "has no videos in it (1 other file)"),
        ("videos", "videos", "is SRC itself"),
        ("videos", "src/notes.txt/dst", "Not a directory"),
    ):
        assert extract_frames.main([str(tmp_path / src), str(tmp_path / dst)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize(
    "option", ["--fps=0", "--fps=x", "--fps=1/0", "--quality=0", "--workers=0"]
)
def test_impossible_options_are_usage_errors(option):
    with pytest.raises(SystemExit, match="2"):
        extract_frames.main(["src", "dst", option])


@pytest.mark.parametrize(
    "name, count, shape",
    [
        ("videos/kinetics_arm_wrestling.mp4", 280, (256, 340, 3)),
        ("asl20/no/no.mkv", 66, (480, 640, 3)),
        # 123 by its header; two are empty packets. Frames are packed in pairs, as XviD does
        ("ut_interaction/handshaking/set1_17_seq3.avi", 121, (300, 448, 3)),
    ],
)
def test_real_videos_have_all_their_frames(tmp_path, name, count, shape):
    if not (REAL / name).exists():
        pytest.skip("the real videos are not on this machine")
    frames = extracted(REAL / name, tmp_path / "out")
    assert frames.shape == (count, *shape)
