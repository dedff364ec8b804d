"""One file in, labels out: what --predict reads, says and writes."""

import csv
import os
import random
import resource
import signal
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torchvision
from conftest import read_table, write_frames
from matplotlib.axes import Axes

from config import Clip, UserError
from main import main
from opts import parse_opts
from pt_dataset.inputs import windows
from pt_dataset.inputs.orders import ORDERS, reordered, reordered_clips
from pt_dataset.inputs.paths import name_of
from pt_dataset.inputs.windows import clips_within, spans
from pt_dataset.video_list import Video
from utils.actions import annotate, predictions
from utils.actions.annotate import write_labeled_video
from utils.classifier import ClipClassifier

ROOT = Path(__file__).resolve().parents[1]
CPU = ["--device", "cpu", "--workers", "0"]


TABLE = Path("new/answers/predictions.csv")


def predict(checkpoint, *argv):
    """Exit status of --predict, the rows that it wrote, and the scores in them."""
    how = ["--resume", str(checkpoint), "--out", "new/answers", *CPU]
    status = main([*how, "--predict", *map(str, argv)])
    return status, *read_table(TABLE)


def write_mp4(path, count=20, fps=10.0):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=int(fps))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "num_frames, window, step, expected",
    [
        (10, 4, 4, [(0, 4), (4, 8), (6, 10)]),  # the last one ends where the video does
        (8, 4, 4, [(0, 4), (4, 8)]),
        (8, 4, 2, [(0, 4), (2, 6), (4, 8)]),
        (3, 4, 2, [(0, 3)]),  # too short for a window
        (9, 2, 4, [(0, 2), (4, 6), (7, 9)]),
    ],
)
def test_windows_reach_from_the_first_frame_to_the_last(num_frames, window, step, expected):
    assert spans(num_frames, window, step) == expected


@pytest.mark.parametrize("start, end", [(0, 12), (5, 9), (30, 40)])
def test_the_clips_of_a_window_stay_inside_it(start, end):
    clips = clips_within(Video("x", 0, "", 40), Clip(clip_len=8, stride=2), start, end, 3)
    assert len(clips) == 3
    assert all(start <= i < end for clip in clips for i in clip)


def test_frames_in_another_order_are_the_same_frames_but_for_frozen_ones():
    clip = list(range(10, 26))
    orders = {order: reordered(clip, order, random.Random(0)) for order in ORDERS}
    assert orders["normal"] == clip
    assert orders["reversed"] == clip[::-1]
    assert sorted(orders["shuffled"]) == clip
    assert orders["shuffled"] not in (clip, clip[::-1])
    assert orders["frozen"] == [18] * 16


def test_a_shuffle_is_the_same_in_another_folder_and_another_for_another_video():
    clips = [list(range(16)), list(range(14, 30))]
    here, there, other = (
        reordered_clips(clips, "shuffled", Video(path, 0, "", 30))
        for path in ("a/x.mp4", "b/x.mp4", "a/y.mp4")
    )
    assert here == there != other
    assert [sorted(clip) for clip in here] == clips


def test_a_checkpoint_alone_says_what_evaluation_says(untrained, monkeypatch):
    run = ["--arch", "tsn", "--dataset", "tiny", "--data-root", "data", "--name", "x", *CPU]
    Path("saved_model/x").mkdir(parents=True)
    for name in ("down/test_0", "up/test_1", "down/test_2"):
        write_frames(Path("data/tiny/frames") / name, 10)  # noise, each another
    views = ["--views", "2x3", "--precision", "fp32"]
    assert main([*run, "--resume", str(untrained), "--evaluate", *views]) == 0
    evaluated = np.load("saved_model/x/scores.npz")
    videos = [Path(name).absolute() for name in evaluated["names"]]
    monkeypatch.chdir(untrained.parent)  # nothing but the file
    status, rows, found = predict(untrained.name, *videos, "--views", "2x3")
    assert status == 0
    by_path = {row["path"]: scores for row, scores in zip(rows, found, strict=True)}
    for path, expected in zip(videos, evaluated["scores"], strict=True):
        scores = by_path[str(path)]
        np.testing.assert_allclose([scores["down"], scores["up"]], expected, atol=2e-5)
    assert len({scores["up"] for scores in found}) > 1
    words = "2 segments of 1 frame as one input, softmax averaged over 3 crops"
    assert all(words in row["protocol"] for row in rows)
    assert {row["weights"] for row in rows} == {"weights of net.pth"}


def test_averaged_weights_are_used_where_there_are_some(untrained):
    state = torch.load(untrained, weights_only=True)
    average = {key: value.clone() for key, value in state["model"].items()}
    average["head.bias"] = torch.tensor([5.0, -5.0])
    video = "data/tiny/frames/up/test_1"
    torch.save(state | {"ema": {"average": average, "steps": 9}}, "ema.pth")
    torch.save(state | {"model": average}, "plain.pth")
    ema, plain, other = (predict(p, video)[2] for p in ("ema.pth", "plain.pth", untrained))
    assert ema == plain != other


def test_files_folders_and_zips_are_predicted_and_broken_ones_named(untrained, capsys):
    folder = Path("mixed")
    write_frames(folder / "frames", 6)
    write_mp4(folder / "clip.mp4")
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for frame in Path("data/tiny/frames/up/test_1").iterdir():
            archive.write(frame, f"inside/{frame.name}")
    (folder / "broken.mp4").write_bytes(b"no video")
    status, rows, found = predict(untrained, folder, "absent.mp4", folder / "clip.mp4", untrained)
    assert status == 1
    assert [row["path"] for row in rows] == [
        *("mixed/clip.mp4", "mixed/frames", "mixed/packed.zip/inside"),
        *("mixed", "absent.mp4", str(untrained)),
    ]
    assert [row["num_frames"] for row in rows] == ["20", "6", "10", "", "", ""]
    assert [len(scores) for scores in found] == [2, 2, 2, 0, 0, 0]
    errors = [row["error"] for row in rows[3:]]
    assert "mixed/broken.mp4 cannot be decoded" in errors[0]
    assert errors[1] == "absent.mp4: there is no such file or folder"
    assert "net.pth cannot be decoded" in errors[2]
    printed = capsys.readouterr().out
    assert all(error in printed for error in errors)
    assert "mixed/clip.mp4 (20 frames, 2.0 s)" in printed
    assert not any(row["error"] for row in rows[:3])


def test_predictions_have_a_folder_of_their_own_and_names_of_any_bytes(untrained):
    odd = os.fsdecode(b"data/a,\xff\n.avi")
    write_mp4(Path("data/clip.mp4")).rename(odd)
    before = set(Path().iterdir())
    assert main(["--resume", str(untrained), "--predict", odd, *CPU]) == 0
    assert set(Path().iterdir()) - before == {Path("predictions")}
    with open("predictions/predictions.csv", errors="surrogateescape", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == odd


def test_a_frame_that_breaks_off_is_named_and_the_next_video_goes_on(untrained):
    frame = Path("data/tiny/frames/up/test_1/image_00006.jpg")
    frame.write_bytes(frame.read_bytes()[:100])
    status, rows, _ = predict(untrained, "data/tiny/frames/up", "--views", "10x1")
    assert status == 1
    assert "test_1/image_00006.jpg cannot be decoded" in rows[-1]["error"]
    assert "data/tiny/frames/up/test_3" in [row["path"] for row in rows if row["class_1"]]


def test_windows_of_a_long_video_give_a_timeline_and_a_picture(untrained, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(Axes, "axvspan", lambda axes, *ends, **how: drawn.append(ends))
    video = write_mp4(Path("long.mp4"), count=50)
    argv = ["--sliding-window", "2", "--annotate", "seen/with.mp4"]
    status, rows, (whole,) = predict(untrained, video, *argv)
    assert status == 0
    assert drawn == [(0, 1.5), (1.5, 2.5), (2.5, 3.5), (3.5, 5)]  # to the middle between windows
    assert "net.pth is older and does not say how its run was evaluated" in capsys.readouterr().out
    with av.open("seen/with.mp4") as container:
        assert len(list(container.decode(video=0))) == 50
    windows, scores = read_table(Path("new/answers/windows.csv"))
    assert [(float(row["start"]), float(row["end"])) for row in windows] == [
        *((0, 2), (1, 3), (2, 4), (3, 5))
    ]
    assert whole["up"] == pytest.approx(sum(one["up"] for one in scores) / 4, abs=1e-4)
    assert rows[0]["protocol"].startswith("windows of 2 s, one every 1 s; 3 segments of 1 frame")
    assert {row["path"] for row in windows} == {"long.mp4"}
    assert Path("new/answers/timeline_long.png").stat().st_size > 5000


@pytest.mark.parametrize("large, groups", [(1, [1] * 7), (3, [1, 3, 3]), (10**6, [1, 6])])
def test_frames_of_large_videos_are_decoded_a_few_together(monkeypatch, large, groups):
    asked, pixels = [], np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)

    def read(path, indices, num_frames):
        asked.append(len(indices))
        return pixels[indices]

    monkeypatch.setattr(windows, "read_frames", read)
    monkeypatch.setattr(windows, "TOGETHER", large * pixels[0].nbytes)
    found = list(windows.frames_of(Video("x.mp4", -1, "", 7, 10.0)))
    assert asked == groups
    assert np.array_equal(found, pixels)
    assert all(frame.base is None for frame in found)  # else each holds those beside it


def test_frames_too_large_to_encode_in_the_free_memory_are_refused(untrained, monkeypatch):
    video = write_mp4(Path("large.mp4"))
    monkeypatch.setattr(annotate, "free_memory", lambda: windows.TOGETHER + 48 * 64 * 129)
    status, rows, _ = predict(untrained, video, "--fps", "10", "--annotate", "with.mp4")
    assert (status, rows[0]["error"]) == (1, "")
    monkeypatch.setattr(annotate, "free_memory", lambda: windows.TOGETHER + 48 * 64 * 131)
    status, *_ = predict(untrained, video, "--fps", "10", "--annotate", "with.mp4")
    assert status == 0
    assert Path("with.mp4").exists()


def test_a_video_is_not_written_over(untrained, caplog):
    video = write_mp4(Path("own.mp4"))
    Path("link.mp4").symlink_to("own.mp4")
    before = video.read_bytes()
    for path in ("own.mp4", "./own.mp4", "link.mp4", str(video.resolve())):
        with pytest.raises(UserError, match="is the video itself; name another file"):
            predict(untrained, video, "--annotate", path)
    assert video.read_bytes() == before


def test_frames_without_a_rate_need_one_for_windows(untrained):
    frames = "data/tiny/frames/up/test_1"
    status, rows, _ = predict(untrained, frames, "--sliding-window", "0.5")
    assert status == 1
    assert "give it with --fps" in rows[0]["error"]
    status, _, _ = predict(untrained, frames, "--sliding-window", "0.5", "--fps", "10")
    assert status == 0
    assert float(read_table(TABLE.with_name("windows.csv"))[0][-1]["end"]) == 1


def test_labels_are_burnt_into_every_frame_and_only_into_the_corner(tmp_path):
    frames = [np.full((240, 320, 3), 120, np.uint8)] * 12
    path = tmp_path / "out.mp4"
    labels = ([("left", min(i / 12.5, 1)), ("right", 0.0)] for i in range(12))
    times = (i / 12.5 for i in range(12))
    write_labeled_video(path, zip(frames, labels, times, strict=True), 12.5)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 12.5
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == 12
    for frame in found:
        assert frame.shape == (240, 320, 3)
        assert np.abs(frame[:60, :60].astype(int) - 120).max() > 80
        assert np.abs(frame[80:].astype(int) - 120).max() < 10
    assert not np.allclose(found[0][:20], found[-1][:20], atol=30)  # the bar has grown


def test_the_labels_of_a_moment_are_those_of_the_nearest_window():
    spans_ = [
        predictions.Span(start, start + 2.0, torch.tensor(scores))
        for start, scores in ((0.0, [0.9, 0.1]), (1.0, [0.2, 0.8]))
    ]
    one = predictions.Prediction("x", 30, 10.0, torch.tensor([0.55, 0.45]), spans_)
    assert predictions.labels_at(one, ["a", "b"], 1.4)[0][0] == "a"
    assert predictions.labels_at(one, ["a", "b"], 1.6)[0] == ("b", pytest.approx(0.8))
    assert [part[:3] for part in predictions.merge_windows(spans_, ["a", "b"])] == [
        *((0, 1.5, "a"), (1.5, 3, "b"))
    ]


def test_weights_of_pictures_cannot_name_videos():
    argv = ["--arch", "i3d", "--pretrained", "imagenet", "--pretrained-file", "x", "--predict", "y"]
    with pytest.raises(UserError, match="were trained on pictures and cannot name"):
        main([*argv, *CPU])


def test_public_weights_name_the_classes_of_kinetics(in_tiny_set):
    torch.manual_seed(0)
    network = torchvision.models.video.s3d().eval()  # untrained, in the format of the public file
    torch.save(network.state_dict(), "s3d.pth")
    argv = ["--arch", "s3d", "--pretrained", "s3d_torchvision", "--pretrained-file", "s3d.pth"]
    size = ["--clip-len", "16", "--short-side", "64", "--crop-size", "64", "--views", "1"]
    assert main([*argv, "--predict", "data/tiny/frames/up/test_1", *size, *CPU]) == 0
    (row,), (scores,) = read_table(Path("predictions/predictions.csv"))
    names = (ROOT / "videos_dataset/kinetics400/classes.txt").read_text().splitlines()
    assert [name in names for name in scores] == [True] * 5
    assert row["weights"] == "s3d_torchvision"


@pytest.mark.parametrize(
    "path, roots, name",
    [
        ("videos/a/b.mp4", ["videos"], "a/b"),
        ("videos/a/b.mp4", ["videos/a/b.mp4"], "b"),
        ("frames/b", ["frames/b"], "b"),  # the folder is the video
        ("/data/x/b.avi", ["list.json"], "data/x/b"),
        ("set/c.zip/d", ["set"], "c.zip/d"),
    ],
)
def test_features_are_named_by_the_path_below_what_was_given(
    path, roots, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for folder in ("videos/a", "frames/b", "set"):
        Path(folder).mkdir(parents=True)
    assert name_of(Video(path, 0, "", 1), roots) == name


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--predict", "x"], "--predict needs --resume CHECKPOINT, or --arch and --pretrained"),
        (["--resume", "a", "--predict", "x", "--lr", "1"], "--lr means nothing to --predict"),
        (["--resume", "a", "--sliding-window", "2"], "--sliding-window goes with --predict"),
        (["--resume", "a", "--export", "a.pt"], "is neither OUT.onnx nor OUT.pt2"),
        (["--resume", "a", "--export", "a.pt2", "--fps", "3"], "--fps goes with --predict or"),
        (["--resume", "a", "--export", "a.pt2", "--precision", "bf16"], "goes with --predict or"),
        (["--resume", "a", "--export", "a.pt2", "--batch-size", "3"], "goes with --predict or"),
        (["--resume", "a", "--extract-features", "f", "--average", "logits"], "or --export"),
        (["--resume", "a", "--extract-features", "f"], "needs --videos PATH"),
        (["--resume", "a", "--predict", "x", "--export", "a.pt2"], "are separate commands"),
        (["--resume", "a", "--evaluate", "--head-only"], "--evaluate and --head-only are separate"),
        (
            ["--resume", "a", "--head-only", "--plan"],
            "--head-only and --plan are separate commands",
        ),
        (["--resume", "a", "--plan", "--predict", "x"], "--plan and --predict are separate"),
        (["--pretrained", "s3d_kylemin", "--predict", "x"], "--pretrained needs --arch"),
        (["--pretrained", "a/b.pth", "--predict", "x"], "takes a checkpoint with --resume a/b.pth"),
        (["--pretrained", "a.pth", "--pretrained-file", "b"], "needs --pretrained WEIGHTS, which"),
        (["--pretrained", "a.pth", "--dataset", "x"], "no checkpoint a.pth"),
        (["--resume", "a", "--gating", "--predict", "x"], "--gating cannot be changed"),
        (["--arch", "i3d", "--dataset", "x", "--probe-time"], "--probe-time goes with --evaluate"),
        (["--arch", "i3d", "--dataset", "x", "--head-only"], "--head-only needs a network"),
        (["--arch", "i3d", "--dataset", "x", "--head-lrs", "1"], "goes with --head-only"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        parse_opts(argv)
    assert message in capsys.readouterr().err


@pytest.fixture
def small_disk():
    """Files of 100 kB at most, as on a disk that is nearly full."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


VIDEOS = [f"data/tiny/frames/{name}" for name in ("down/test_0", "up/test_1", "down/test_2")]


@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_keeps_what_is_predicted(untrained, monkeypatch, capsys, signum, status):
    forward, calls = ClipClassifier.forward, []

    def interrupted(self, clips):
        calls.append(len(clips))
        if len(calls) == 3:
            os.kill(os.getpid(), signum)
        return forward(self, clips)

    monkeypatch.setattr(ClipClassifier, "forward", interrupted)
    argv = [*VIDEOS, "data/tiny/frames/up/test_3", "--batch-size", "1"]
    found_status, rows, _ = predict(untrained, *argv)
    assert found_status == status
    assert [row["path"] for row in rows] == VIDEOS[:2]
    printed = capsys.readouterr().out
    assert all(f"{video} (10 frames)" in printed for video in VIDEOS[:2])
    assert "2 of 4 videos are predicted" in printed
    assert f"written: {TABLE}" in printed


def test_an_error_keeps_what_is_predicted(untrained, monkeypatch):
    def memory(video, output):
        if video.path == VIDEOS[2]:
            raise MemoryError
        return output

    monkeypatch.setattr("utils.actions.network.finite", memory)
    with pytest.raises(MemoryError):
        predict(untrained, *VIDEOS)
    assert [row["path"] for row in read_table(TABLE)[0]] == VIDEOS[:2]


def test_nothing_predicted_replaces_nothing(untrained, capsys):
    assert predict(untrained, VIDEOS[0])[0] == 0
    before = TABLE.read_text()
    assert predict(untrained, "absent.mp4")[0] == 1
    assert TABLE.read_text() == before
    assert "nothing was predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv, sentence",
    [
        (["--predict", *VIDEOS], r"^new/out cannot be written \(File too large\).*--out$"),
        (
            ["--predict", *VIDEOS, "--out", "data/tiny/classes.txt"],
            r"classes.txt is a file",
        ),
        (["--export", "new/net.pt2"], r"^new cannot be written \(File too large\).*--export$"),
    ],
)
def test_a_folder_without_room_is_named_before_the_work(untrained, small_disk, argv, sentence):
    out = ["--out", "new/out"] if argv == ["--predict", *VIDEOS] else []
    with pytest.raises(UserError, match=sentence):
        main(["--resume", "no such file", *argv, *out, "--device", "cpu"])
    assert not Path("new").exists()


@pytest.mark.parametrize("argv", [[], ["--probe-time"]])
def test_an_evaluation_without_room_for_its_files_is_refused_at_once(
    untrained, small_disk, monkeypatch, argv
):
    monkeypatch.setattr("utils.build.score", None)  # is not called
    run = ["--dataset", "tiny", "--data-root", "data", "--arch", "tsn", *CPU]
    with pytest.raises(UserError, match=r"^alone/results_net_tiny_1 cannot be written .*--name$"):
        main(["--resume", "alone/net.pth", "--evaluate", *argv, *run])
    assert [path.name for path in Path("alone").iterdir()] == ["net.pth"]


def test_a_video_that_cannot_be_written_to_its_end_is_not_there(small_disk, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 240, 320, 3), dtype=np.uint8)
    frames = ((frame, [("a", 0.5)], i / 10) for i, frame in enumerate(noise))
    (tmp_path / "out.mp4").write_bytes(b"older")
    with pytest.raises(UserError, match=r"out.mp4 cannot be written: File too large"):
        write_labeled_video(tmp_path / "out.mp4", frames, 10)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.mp4": b"older"}
