"""Videos encoded anew for training are the same videos: frames, times, colors, turns and names."""

import json
import sys

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from test_extract_frames import (
    BROKEN,
    ROTATIONS,
    cut_off,
    frame_of,
    levels,
    write_rotated,
    write_video,
)

from pt_dataset import make_json, shrink_videos
from pt_dataset.formats.measure import measure
from pt_dataset.formats.video_file import open_video, timed_frames
from pt_dataset.listing import folders
from pt_dataset.listing.convert import result_files
from pt_dataset.listing.find_videos import find_videos
from pt_dataset.sources import read_frames


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """The jobs are done in this process, which is quick."""

    def run_jobs(job, todo, workers):
        for item in todo:
            yield job(*item)

    monkeypatch.setattr(folders, "run_jobs", run_jobs)


def shrunk(video, short_side=0):
    path = video.with_name("shrunk.mp4")
    count, damage, _ = shrink_videos.write_shrunk(video, path, {"short_side": short_side})
    assert (measure(str(path)).num_frames, damage) == (count, "")
    return path


def all_frames(video):
    count = measure(str(video)).num_frames
    return read_frames(str(video), list(range(count)), count)


def times(video):
    """Seconds from the first frame on, and those of the end."""
    with open_video(video) as container:
        found = np.array([float(time) for time, _ in timed_frames(container)])
    return found - found[0]


@pytest.mark.parametrize(
    "name, codec, rate, times_written",
    [
        ("a.avi", "mpeg4", 30, None),  # stores no times
        ("a.mp4", "libx264", 30, None),  # in another order than that of presentation
        ("a.ts", "libx264", 24, None),  # begins at 1.4 s
        ("a.mkv", "libx264", 50, None),  # times rounded to ms
        ("a.mkv", "mpeg4", 30, [0, 0.04, 0.3, 0.5, 0.533, 2, 2.001, 9, 9.5, 10]),
        ("a.mkv", "mpeg4", 30, [5, 5.1, 5.2, 5.3]),
    ],
)
def test_frame_k_is_frame_k_at_the_same_time(tmp_path, name, codec, rate, times_written):
    count = len(times_written or range(20))
    video = write_video(tmp_path / name, count, codec=codec, rate=rate, times=times_written)
    path = shrunk(video)
    assert levels(all_frames(path)) == list(range(count))
    assert np.abs(times(path) - times(video)).max() < 1e-3
    assert measure(str(path)).fps == pytest.approx(measure(str(video)).fps, rel=1e-4)


def test_two_frames_at_one_time_stay_two(tmp_path):
    joined = write_video(tmp_path / "a.ts", codec="libx264", g="5")  # counts from its start again
    joined.write_bytes(joined.read_bytes() * 2)
    path = shrunk(joined)
    assert levels(all_frames(path)) == [*range(20)] * 2
    assert np.abs(times(path) - times(joined)).max() < 1e-3


@pytest.mark.parametrize(
    "size, short_side, expected",
    [
        ((64, 48), 0, (64, 48)),
        ((65, 49), 0, (64, 48)),  # four pixels share a color, so there are no odd sizes
        ((63, 51), 0, (64, 52)),
        ((64, 48), 256, (342, 256)),
        ((48, 64), 24, (24, 32)),
    ],
)
def test_frames_have_the_short_side_and_an_even_size(tmp_path, size, short_side, expected):
    path = shrunk(write_video(tmp_path / "a.mkv", count=2, size=size), short_side)
    assert all_frames(path).shape == (2, expected[1], expected[0], 3)


@pytest.mark.parametrize("matrix, shape, dark", ROTATIONS)
def test_a_rotated_video_is_stored_upright(tmp_path, matrix, shape, dark):
    path = shrunk(write_rotated(tmp_path / "a.mp4", matrix))
    frame = all_frames(path)[0]
    assert frame.shape == (*shape, 3)
    assert frame[dark].max() < 70 and frame.mean() > 100
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == 0


COLOR = (200, 30, 40)
COLORS = {  # how a video is stored: its pixels, range, matrix with weights, primaries and transfer
    "old": ("yuv420p", 1, (5, 0.299, 0.114), 5, 6),
    "full range": ("yuv420p", 2, (5, 0.299, 0.114), 5, 6),
    "HD": ("yuv422p", 1, (1, 0.2126, 0.0722), 1, 1),
    "10 bits": ("yuv420p10le", 1, (1, 0.2126, 0.0722), 1, 1),
    "HDR": ("yuv420p10le", 1, (9, 0.2627, 0.0593), 9, 16),
    "HDR of a phone, full range": ("yuv420p10le", 2, (9, 0.2627, 0.0593), 9, 18),
}


@pytest.mark.parametrize("kind", COLORS)
def test_colors_survive_and_are_marked(tmp_path, kind):
    pixels, color_range, matrix, primaries, transfer = COLORS[kind]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        context = stream.codec_context
        context.colorspace, context.color_range = matrix[0], color_range
        context.color_primaries, context.color_trc = primaries, transfer
        frame = frame_of(COLOR, *matrix)
        in_form = {"format": pixels, "dst_colorspace": matrix[0], "dst_color_range": color_range}
        container.mux(stream.encode(frame.reformat(**in_form)))
        container.mux(stream.encode(None))
    path = shrunk(tmp_path / "a.mkv")
    original, picture = all_frames(tmp_path / "a.mkv"), all_frames(path)
    assert np.abs(original - np.array(COLOR)).max() <= 3
    assert np.abs(picture - np.array(COLOR)).max() <= 6  # the wrong matrix: 20
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", 5, 1)
    assert (frame.color_primaries, frame.color_trc) == (primaries, transfer)


def test_it_is_close_to_the_original_and_decodes_from_every_16th_frame(tmp_path):
    clouds = np.random.default_rng(0).integers(64, 192, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(av.VideoFrame.from_ndarray(clouds).reformat(64, 48).to_ndarray("rgb24"))
    video = write_video(tmp_path / "a.mkv", 40, picture=picture)
    path = shrunk(video)
    error = np.square(all_frames(path).astype(float) - all_frames(video)).mean()
    assert 10 * np.log10(255**2 / error) > 38
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert len(container.streams) == 1
    assert {frame.pict_type for frame in frames} == {PictureType.I, PictureType.P}
    keys = [i for i, frame in enumerate(frames) if frame.key_frame]
    assert max(np.diff([*keys, len(frames)])) <= 16


def shrink(src, dst, *more):
    return shrink_videos.main([str(src), str(dst), "--workers=1", "--short-side=32", *more])


def test_a_tree_is_shrunk_what_is_broken_is_named_and_it_goes_on(tmp_path, capsys):
    src, dst = tmp_path / "src", tmp_path / "dst"
    for name in ("wave/two words.avi", "run/x.mkv", "run/a:b.mp4"):
        write_video(src / name, count=3)
    for name, (write, _) in BROKEN.items():
        write(src / name)
    hurt = cut_off(src / "wave" / "hurt.mkv", 0.7)
    assert shrink(src, dst) == 1
    printed = capsys.readouterr()
    assert "3 videos shrunk (9 frames), 0 finished before, 6 broken, 0 other" in printed.out
    assert f"next: python pt_dataset/make_json.py folder NAME {dst}" in printed.out
    assert f"{hurt}: frame 46 is bad: the file is cut off here; get it again, or " in printed.err
    named = [line for line in printed.err.splitlines() if line.startswith("broken: ")]
    assert len(named) == 6
    made = ["run/a:b.mp4", "run/x.mp4", "wave/two words.mp4"]
    assert sorted(str(path.relative_to(dst)) for path in dst.rglob("*.*4")) == made
    assert not list(dst.rglob("*.partial"))
    assert json.loads((dst / "shrink_videos.json").read_text()) == {"short_side": 32}

    before = {name: (dst / name).stat().st_mtime_ns for name in made}
    for path in (hurt, *(src / name for name in BROKEN)):
        path.unlink()
    write_video(src / "run/x.mkv", count=5)
    write_video(src / "run/new.avi", count=2)
    assert shrink(src, dst) == 0
    printed = capsys.readouterr().out
    assert "2 videos shrunk (7 frames), 1 of them again as the video has changed" in printed
    changed = [name for name in made if (dst / name).stat().st_mtime_ns != before[name]]
    assert changed == ["run/x.mp4"]

    (src / "run/x.mkv").write_bytes(b"")
    assert shrink(src, dst) == 1
    assert f"{dst}/run/x.mp4 stays as it was made before" in capsys.readouterr().err
    assert measure(str(dst / "run/x.mp4")).num_frames == 5
    assert shrink(src, dst, "--short-side=64") == 1
    assert "has videos made with" in capsys.readouterr().err


def test_lists_name_shrunk_videos_as_they_name_the_originals(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.avi", "a/x.mkv", "a/y.1.avi", "b/a.avi", "b/a/z.avi", "b/w.avi"):
        write_video(tmp_path / "src" / name, count=9)
    assert shrink(tmp_path / "src", tmp_path / "dst") == 0
    original, made = find_videos(tmp_path / "src"), find_videos(tmp_path / "dst")
    assert made.paths.keys() == original.paths.keys()
    assert made.problems == original.problems == []
    assert make_json.main(["folder", "NAME", "dst"]) == 0
    entries = json.loads((tmp_path / "videos_dataset/NAME/trainlist01.json").read_text())
    assert {entry["num_frames"] for entry in entries} == {9}
    assert {entry["fps"] for entry in entries} == {30}


def test_no_name_is_taken_twice_or_too_long(tmp_path):
    problems = []
    videos = sorted(map(shrink_videos.Path, ["x.avi", "x.mp4", "x.mp4.mkv", "y" * 252 + ".rm"]))
    files = result_files(videos, ".mp4", problems)
    assert list(map(str, files.values())) == ["x.mp4", "x.mp4.mp4", "x.mp4.mkv.mp4"]
    assert len(problems) == 1 and "too long a name" in problems[0]


def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "videos" / "a.avi", count=1)
    write_video(tmp_path / "wide" / "a.mkv", count=1, size=(2000, 2))

    def error(src="videos", dst="dst"):
        assert shrink(tmp_path / src, tmp_path / dst) == 1
        return capsys.readouterr().err

    assert "is SRC itself; name another folder for the videos" in error(dst="videos")
    (tmp_path / "dst" / "a.mp4").mkdir(parents=True)
    assert "has videos of another origin" in error()
    assert "a.mkv: H.264 has no 32000x32" in error("wide", "dst2")
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    assert "has no libx264; " in error()
    monkeypatch.setitem(sys.modules, "av", None)
    assert error() == "error: PyAV reads and writes videos, and is missing; pip install av\n"


@pytest.mark.parametrize("option", ["--short-side=-2", "--short-side=33", "--workers=0"])
def test_impossible_options_are_usage_errors(option):
    with pytest.raises(SystemExit, match="2"):
        shrink_videos.main(["src", "dst", option])
