"""Seconds are those of the stamps: videos of variable frame rate, in training and afterwards."""

import random
from dataclasses import replace

import av
import numpy as np
import pytest
from test_extract_frames import AS_STORED, extracted, levels, write_video
from test_loader import CLIP

from config import Augmentation, Views
from pt_dataset import sampling
from pt_dataset.clip_dataset import TrainClips, ViewClips, resampled
from pt_dataset.formats.measure import measure
from pt_dataset.formats.times import on_screen, seconds, uneven_times
from pt_dataset.inputs import windows
from pt_dataset.video_list import Video
from utils.actions.annotate import write_labeled_video

# fast, then slow: 10 frames in 0.4 s, 10 in 4 s
UNEVEN = [0.04 * i for i in range(10)] + [0.4 + 0.4 * i for i in range(10)]
AT_TEN = replace(CLIP, clip_len=8, stride=1, target_fps=10)


def listed(path):
    measured = measure(str(path))
    return Video(str(path), 0, "a", measured.num_frames, measured.fps)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_the_rate_of_uneven_frames_is_frames_over_duration(tmp_path, name):
    video = listed(write_video(tmp_path / name, codec="libx264", times=UNEVEN))
    times = seconds(video)
    assert times is not None and np.allclose(times[:-1], UNEVEN, atol=2e-3)
    assert video.fps == pytest.approx(20 / times[-1], rel=0.02)
    assert 4 < times[-1] < 4.5


def test_frames_that_were_dropped_in_an_avi_took_their_time(tmp_path):
    dropped = [0.04 * i for i in range(30) if i % 10 < 3]
    path = write_video(tmp_path / "a.avi", count=9, codec="msmpeg4", times=dropped)
    video = listed(path)
    times = seconds(video)
    assert times is not None and times[-1] == pytest.approx(0.88, abs=0.05)
    assert np.allclose(times[:-1], dropped, atol=2e-3)
    shown, _ = resampled(video, replace(AT_TEN, target_fps=25))
    assert shown.num_frames == pytest.approx(0.88 * 25, abs=1)


def test_times_of_a_video_that_lost_its_end_are_true_before_it(tmp_path):
    path = write_video(tmp_path / "a.mkv", codec="libx264", times=UNEVEN)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 19 // 20])
    video = listed(path)
    times = seconds(video)
    assert times is not None and 11 < video.num_frames < 20
    # the last one is shown after a B frame that is lost
    assert np.allclose(times[:-2], UNEVEN[: video.num_frames - 1], atol=2e-3)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi", "a.ts"])
@pytest.mark.parametrize("rate", [12, 25, 30])
def test_frames_at_an_even_rate_are_sampled_as_ever(tmp_path, name, rate):
    video = listed(write_video(tmp_path / name, codec="mpeg4", rate=rate))
    assert video.fps == pytest.approx(rate, abs=1e-6)
    assert uneven_times(video) is None
    assert seconds(video).tolist() == (np.arange(21) / rate).tolist()
    shown, frame_of = resampled(video, AT_TEN)
    assert (shown, list(frame_of)) == (video, list(range(20)))


def test_at_a_rate_clips_have_the_frames_on_screen(tmp_path):
    path = write_video(tmp_path / "a.mkv", codec="libx264", times=UNEVEN)
    video = listed(path)
    on_screen = levels(extracted(path, tmp_path / "out", **AS_STORED | {"fps": "10"}))
    shown, frame_of = resampled(video, AT_TEN)
    assert frame_of == on_screen[: len(frame_of)]
    assert abs(len(frame_of) - len(on_screen)) <= 1
    clip = [on_screen[0 + i] for i in range(8)]
    assert windows.clips_within(video, AT_TEN, 0, 20, 2)[0] == clip
    assert windows.window_clip(video, AT_TEN, 0, 20, 20)[:8] == clip
    part = windows.clips_within(video, AT_TEN, 10, 20, 1)[0]
    assert part == sorted(part) and set(part) <= set(range(10, 20)) and len(set(part)) <= 3
    for clips in (
        ViewClips([video], AT_TEN, Views(2, 1)),
        TrainClips([video], AT_TEN, Augmentation(), None, 0),
    ):
        assert clips.sample(0, 0).clip is not None


def test_on_screen_is_the_last_frame_that_has_begun_at_any_times():
    rng = random.Random(0)
    for _ in range(50):
        times = [0.0]
        for _ in range(rng.randrange(1, 30)):
            times.append(times[-1] + rng.choice([0.01, 0.04, 0.5]))
        fps = rng.choice([5, 10, 25])
        for tick, index in enumerate(on_screen(times, fps)):
            assert times[index] <= tick / fps + 2e-3
            assert times[index + 1] > tick / fps or index == len(times) - 2


@pytest.mark.parametrize("fps, target", [(30, 10), (30, 25), (25, 30), (12.5, 25)])
def test_even_stamps_give_the_frames_that_the_rate_gives(fps, target):
    num_frames = 200
    times = [k / fps for k in range(num_frames + 1)]
    step = sampling.resampled_stride(1, fps, target)
    by_rate = [int(i * step) for i in range(int((num_frames - 1) / step))]
    assert on_screen(times, target)[: len(by_rate)] == by_rate


def test_windows_of_seconds_follow_the_stamps(tmp_path):
    video = listed(write_video(tmp_path / "a.mkv", codec="libx264", times=UNEVEN))
    times = seconds(video)
    found = windows.spans_of_seconds(video, 20, 1.0)
    assert found[0][0] == 0 and found[-1][1] == 20
    for i, (start, end) in enumerate(found):
        begin = min(i / 2, times[-1] - 1)
        assert times[start] <= begin + 1e-9 < times[start + 1]
        assert times[end - 1] < begin + 1 <= times[end] + 1e-9


def test_a_labeled_video_shows_its_frames_when_the_video_does(tmp_path):
    times = [0, 0.04, 0.08, 0.5, 1.5]
    picture = np.full((48, 64, 3), 120, np.uint8)
    frames = [(picture, [("a", 0.5)], time) for time in times]
    write_labeled_video(tmp_path / "out.mp4", frames, 4.0)
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    assert found == pytest.approx(times, abs=1e-3)
