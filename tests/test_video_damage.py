"""Damaged and odd video files: what decodes is used, what is bad has a number, one policy for all.

The same frame comes out the same, or is refused, however it is asked for.
"""

import json
import random
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from test_extract_frames import AS_STORED, write_audio, write_video
from test_loader import CLIP

from config import Augmentation, UserError, Views
from pt_dataset import extract_frames, make_json
from pt_dataset.clip_dataset import TrainClips, ViewClips
from pt_dataset.formats import video_file
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.formats.measure import measure
from pt_dataset.inputs.paths import videos_at
from pt_dataset.listing.check_video import check_video
from pt_dataset.sources import BadFrame, read_frames
from pt_dataset.video_list import Video

COUNT = 30
KINDS = [("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264")]
KINDS += [("a.mov", "mpeg4"), ("a.mpg", "mpeg2video")]


def write_moving(path, codec, gop="10"):
    """A video of moving noise, with a key frame every tenth frame."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, 64 + COUNT, 3), dtype=np.uint8)
    options = {"g": gop} | ({"bf": "2"} if codec != "mpeg2video" else {})
    options |= {"coder": "0"} if codec == "libx264" else {}  # which notices damage
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 400_000
        for i in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise[:, i : i + 64].copy())))
        container.mux(stream.encode(None))
    return path


def decode(video):
    """How many frames FFmpeg shows of a video, and whether it notices that something is wrong."""
    count, is_hurt = 0, False
    with video_file.open_video(video) as container:
        for packet in container.demux(video=0):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                frames, is_hurt = [], True
            count += len(frames)
            is_hurt = is_hurt or any(frame.is_corrupt for frame in frames)
    return count, is_hurt


def alone(video, index, count):
    """A frame read by itself, by a reader that knows nothing yet; None if it is bad."""
    video_file._read_stamps.cache_clear()
    try:
        return read_frames(video, [index], count)[0]
    except BadFrame as error:
        assert error.index == index
        assert f"{video}: frame {index + 1} cannot be decoded" in str(error)
        return None


def hurt(path, how):
    """Spoils a frame in the middle such that FFmpeg notices, or its size, or cuts the end off."""
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: 3 * len(whole) // 4])
        return
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0)]
    frame = max(packets[11:14], key=len)  # a P frame, on which others build
    # a stretch of it which is in one packet of the container
    pieces = [frame[i : i + 90] for i in range(0 if how == "size" else 50, len(frame) - 90)]
    start = next(place for place in map(whole.find, pieces) if place >= 0)
    for seed in range(50):
        noise = b"\xff" * 4 if how == "size" else random.Random(seed).randbytes(90)
        path.write_bytes(whole[:start] + noise + whole[start + len(noise) :])
        if decode(path)[1]:
            return


@pytest.mark.parametrize("how", ["inside", "cut"])
@pytest.mark.parametrize("name, codec", KINDS)
def test_damage_is_bad_frames_with_numbers_for_all_that_read(tmp_path, name, codec, how):
    path = write_moving(tmp_path / name, codec)
    whole = read_frames(str(path), list(range(COUNT)), COUNT)
    hurt(path, how)
    video = str(path)
    if how == "cut" and path.suffix in (".mp4", ".mov"):  # their table of contents is at the end
        with pytest.raises(UserError, match=r"a\.mp4|a\.mov"):
            measure(video)
        return
    measured = measure(video)
    count, bad = measured.num_frames, set(measured.bad)
    assert count == decode(path)[0]
    assert 0 < len(bad) < count
    are = "is" if len(bad) == 1 else "are"
    where = f"{len(bad)} of {count} frames {are} bad, from frame {min(bad) + 1}: "
    assert measured.damage().startswith(where)

    one_by_one = {i: alone(video, i, count) for i in range(count)}
    assert {i for i, frame in one_by_one.items() if frame is None} == bad
    good = [i for i in range(count) if i not in bad]
    for i, frame in zip(good, read_frames(video, good, count), strict=True):
        assert np.array_equal(frame, one_by_one[i])
    if count == COUNT:  # nothing is lost, so the good ones are as they were, but for rounding
        assert all(np.abs(one_by_one[i].astype(int) - whole[i]).mean() < 1 for i in good)
    with pytest.raises(BadFrame) as error:
        read_frames(video, list(range(count)), count)
    assert error.value.index == min(bad)

    (tmp_path / "out").mkdir()
    num_written, damage, _ = extract_frames.write_frames(path, tmp_path / "out", AS_STORED)
    files = [tmp_path / "out" / file for file in frame_names(tmp_path / "out")]
    assert num_written == len(files) == count
    assert {i for i, file in enumerate(files) if not file.stat().st_size} == bad
    assert damage == f"{path}: {measured.damage()}"
    for sample in (5, None):
        problems = check_video(Video(video, 0, "a", count), sample).problems
        assert [(p.kind, p.message) for p in problems] == [("bad frame", damage)]


def test_the_nearest_good_frame_stands_in_for_a_bad_one_of_a_video(tmp_path):
    path = write_moving(tmp_path / "a.mkv", "libx264")
    hurt(path, "size")
    measured = measure(str(path))
    video = Video(str(path), 0, "a", measured.num_frames)
    clip = CLIP
    views = ViewClips([video], clip, Views(8, 1), "nearest").sample(0, 0)
    assert views.clip is not None and "cannot be decoded" in (views.fault or "")
    assert ViewClips([video], clip, Views(8, 1), "skip").sample(0, 0).clip is None
    with pytest.raises(BadFrame):
        ViewClips([video], clip, Views(8, 1), "stop").sample(0, 0)
    train = [TrainClips([video], clip, Augmentation(), None, s, "nearest") for s in range(20)]
    faults = [clips.sample(0, 0).fault for clips in train]
    assert any(faults)  # and those without are clips of good frames


def test_a_list_from_before_the_damage_is_refused_where_it_matters(tmp_path):
    path = write_moving(tmp_path / "a.mp4", "libx264")
    hurt(path, "size")
    count = measure(str(path)).num_frames
    assert count == COUNT - 1
    middle = next(iter(measure(str(path)).bad))
    with pytest.raises(UserError, match=f"says {COUNT} frames, the video has {count}"):
        read_frames(str(path), [middle], COUNT)


def test_joined_transport_streams_go_on_in_time(tmp_path):
    path = write_video(tmp_path / "a.ts", codec="libx264", g="5")
    path.write_bytes(path.read_bytes() * 2)
    assert measure(str(path)) == (40, 30, {})
    (tmp_path / "out").mkdir()
    assert extract_frames.write_frames(path, tmp_path / "out", AS_STORED | {"fps": "10"})[0] == 14


def test_two_frames_of_one_time_move_no_other(monkeypatch):
    frames = [(SimpleNamespace(pts=pts, duration=1), None) for pts in (0, 1, 1, 2)]
    stream = SimpleNamespace(average_rate=Fraction(1), time_base=Fraction(1))
    monkeypatch.setattr(video_file, "video_stream", lambda container: stream)
    monkeypatch.setattr(video_file, "judged_frames", lambda container, packets: frames)
    container = SimpleNamespace(format=SimpleNamespace(name="mp4"), demux=lambda stream: None)
    assert [time for time, _ in video_file.timed_frames(container)] == [0, 1, 1, 2, 3]


def test_a_transport_stream_that_lost_a_packet_has_its_frames(tmp_path):
    path = write_moving(tmp_path / "a.ts", "libx264")
    data = path.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    lost = next(
        i
        for i in range(len(packets) // 2, len(packets))
        if packets[i][1] & 0x5F == 1 and packets[i][2] == 0  # of the video, in the middle of one
    )
    path.write_bytes(b"".join(packets[:lost] + packets[lost + 1 :]))
    measured = measure(str(path))
    assert measured.num_frames == decode(path)[0] >= COUNT - 1
    assert 0 < len(measured.bad) <= 12


def cover_only(path):
    """Sound with a picture of its record."""
    write_audio(path)
    sound = path.rename(path.with_name("sound.m4a"))
    with av.open(str(sound)) as source, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(source.streams.audio[0])
        picture = out.add_stream("mjpeg", rate=1, options={"strict": "unofficial"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        out.mux(picture.encode(av.VideoFrame(64, 48, "yuvj420p")))
        out.mux(picture.encode(None))
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    sound.unlink()


ODD = {
    "picture.mp4": lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "cover.mp4": cover_only,
    "sound.mp4": write_audio,
    "page.mp4": lambda path: path.write_text("<html>404</html>"),
}


def test_an_odd_video_is_one_sentence_and_the_others_go_on(tmp_path, capsys):
    for i, name in enumerate("abcd"):
        write_video(tmp_path / "set" / "xy"[i % 2] / f"{name}.avi", count=2)
    for name, write in ODD.items():
        write(tmp_path / "set" / "x" / name)
    argv = ["folder", "mine", str(tmp_path / "set"), "--data-root", str(tmp_path / "lists")]
    assert make_json.main(argv) == 1
    told = capsys.readouterr().err
    assert all(f"{name} cannot be decoded: " in told for name in ODD)
    lists = [json.loads(path.read_text()) for path in (tmp_path / "lists/mine").glob("*.json")]
    assert sum(map(len, lists)) == 4
    for name in ODD:
        odd = tmp_path / "set" / "x" / name
        for action in (measure, lambda video: read_frames(video, [0], 1)):
            with pytest.raises(UserError, match=f"{name} cannot be decoded"):
                action(str(odd))
        with pytest.raises(UserError, match=f"{name} cannot be decoded"):
            extract_frames.write_frames(odd, tmp_path, AS_STORED)
        assert [p.kind for p in check_video(Video(str(odd), 0, "x", 2), 5).problems] == ["unusable"]
        assert ViewClips([Video(str(odd), 0, "x", 2)], CLIP, Views(1, 1), "skip").sample(0, 0).fault
    videos, problems = videos_at([str(tmp_path / "set" / "x")])
    assert len(videos) == 2 and len(problems) == len(ODD)


def test_make_json_says_which_frames_are_bad(tmp_path, capsys):
    for i, name in enumerate("abcd"):
        path = write_video(tmp_path / "set" / "xy"[i % 2] / f"{name}.avi", count=2)
    hurt(write_moving(path, "mpeg4"), "inside")
    argv = ["folder", "mine", str(tmp_path / "set"), "--data-root", str(tmp_path / "lists")]
    assert make_json.main(argv) == 1
    count = measure(str(path)).num_frames
    assert f"bad frames: {path}: {measure(str(path)).damage()}" in capsys.readouterr().err
    lists = [json.loads(path.read_text()) for path in (tmp_path / "lists/mine").glob("*.json")]
    entries = [entry for found in lists for entry in found]
    assert sorted(entry["num_frames"] for entry in entries) == [2, 2, 2, count]


def test_what_is_raised_on_a_video_belongs_to_it(tmp_path, monkeypatch):
    path = str(write_video(tmp_path / "a.avi", count=2))

    def fail(*args):
        raise NotImplementedError("a kind of its own")

    monkeypatch.setattr(video_file, "decoded", fail)
    with pytest.raises(UserError, match=r"a\.avi cannot be decoded: NotImplementedError: a kind"):
        measure(path)


ORIENTATIONS = {  # a, b, c, d of a display matrix -> the picture as it is shown
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): np.rot90,
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: p[::-1, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_turned_and_mirrored_videos_are_shown_upright(tmp_path, matrix):
    picture = np.zeros((48, 64, 3), np.uint8)  # four grays
    picture[:24, 32:], picture[24:, :32], picture[24:, 32:] = 60, 120, 220
    path = write_video(tmp_path / "a.mp4", count=3, picture=picture, codec="libx264", g="2")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version, times, id, duration, layer, volume
    a, b, c, d = matrix
    for i, value in enumerate((a, b, 0, c, d, 0)):
        data[at + 4 * i : at + 4 * i + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    shown = ORIENTATIONS[matrix](picture).astype(int)

    def is_shown(frame):
        return frame.shape == shown.shape and np.abs(frame - shown).mean() < 12

    assert is_shown(read_frames(str(path), [2], 3)[0])  # by seeking
    assert is_shown(read_frames(str(path), [1], 2)[0])  # from the start
    (tmp_path / "out").mkdir()
    extract_frames.write_frames(path, tmp_path / "out", AS_STORED)
    assert is_shown(read_frames(str(tmp_path / "out"), [0], 3)[0])
