import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from conftest import write_frames
from PIL import Image
from test_extract_frames import (
    AS_STORED,
    BROKEN,
    COLOR_SPACES,
    ROTATIONS,
    extracted,
    frame_of,
    levels,
    write_rotated,
    write_video,
)

from config import UserError
from pt_dataset import extract_frames
from pt_dataset.formats import video_file, zip_frames
from pt_dataset.formats.flow import count_flow, read_flow
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.formats.measure import count_frames, measure
from pt_dataset.formats.zip_frames import zip_videos
from pt_dataset.sources import BadFrame, exists, frames, read_frames

ROOT = Path(__file__).resolve().parents[1]


def zip_folder(archive, folder, inside="", **kwargs):
    """Adds the files of a folder to an archive, as any packer may: not in the order of time."""
    with zipfile.ZipFile(archive, "a", **kwargs) as file:
        for path in sorted(folder.iterdir(), reverse=True):
            file.write(path, inside + path.name)
    return str(archive)


def one_sentence(action, *args):
    """The message of the UserError that an action raises."""
    with pytest.raises(UserError) as error:
        action(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "scheme",
    [
        "frame{:06d}.jpg",
        "image_{:05d}.jpg",
        "img_{:05d}.jpg",
        "i_{:04d}.jpg",
        "{:03d}.jpg",
        "{}.png",
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_scheme_and_first_number_are_found(tmp_path, scheme, first):
    write_frames(tmp_path / "v", 12, scheme=scheme, first=first, level=lambda t: 20 * t)
    (tmp_path / "v" / "notes.txt").write_text("not a frame")
    (tmp_path / "v" / "n_frames").write_text("12")
    clip = read_frames(str(tmp_path / "v"), [0, 5, 11, 5], 12)
    assert clip.shape == (4, 36, 48, 3)
    assert clip.dtype == np.uint8
    assert clip.flags.c_contiguous
    assert np.abs(clip.mean(axis=(1, 2, 3)) - [0, 100, 220, 100]).max() < 2


def test_frames_come_one_by_one_with_their_places_in_one_memory(tmp_path):
    folder = write_frames(tmp_path / "v", 12, level=lambda t: 20 * t)
    pulled = frames(str(folder), [5, 0, 5, 11, 0, 5], 12)
    seen, memory = [], set()
    for places, frame in pulled:
        assert frame.shape == (36, 48, 3) and frame.flags.c_contiguous
        seen.append((places, round(frame.mean() / 20)))
        memory.add(frame.ctypes.data)
    assert seen == [([0, 2, 5], 5), ([1, 4], 0), ([3], 11)]
    assert len(memory) == 1
    archive = zip_folder(tmp_path / "a.zip", folder)
    assert [places for places, _ in frames(archive, [5, 0, 5], 12)] == [[0, 2], [1]]
    video = str(write_video(tmp_path / "a.mp4", codec="libx264", g="5"))
    seen = [(places, *levels(frame[None])) for places, frame in frames(video, [13, 2, 13, 6], 20)]
    assert seen == [([1], 2), ([3], 6), ([0, 2], 13)]  # as they are shown


def test_frames_that_seeking_does_not_find_are_decoded_from_the_start(tmp_path, monkeypatch):
    video = str(write_video(tmp_path / "a.mkv", codec="libx264", g="5"))
    seek = video_file.seek_frames
    monkeypatch.setattr(video_file, "seek_frames", lambda *args: list(seek(*args))[:1])
    assert levels(read_frames(video, [12, 3, 3, 17], 20)) == [12, 3, 3, 17]


def test_frames_are_those_that_pillow_decodes(tmp_path):
    write_frames(tmp_path / "v", 2, size=(64, 48))
    expected = np.asarray(Image.open(tmp_path / "v" / "image_00002.jpg"))
    assert np.array_equal(read_frames(str(tmp_path / "v"), [1], 2)[0], expected)


@pytest.mark.parametrize(
    "mode, suffix", [("CMYK", "jpg"), ("L", "jpg"), ("RGBA", "png"), ("P", "png")]
)
def test_pictures_of_other_kinds_become_rgb(tmp_path, mode, suffix):
    write_frames(tmp_path / "v", 1, level=lambda t: 102)  # in every palette
    path = tmp_path / "v" / "image_00001.jpg"
    picture = Image.open(path).convert(mode)
    path.unlink()
    picture.save(tmp_path / "v" / f"image_00001.{suffix}")
    clip = read_frames(str(tmp_path / "v"), [0], 1)
    assert np.abs(clip.astype(int) - 102).max() <= 4


def test_a_count_larger_than_the_folder_is_an_error_even_if_no_index_reaches_it(tmp_path):
    write_frames(tmp_path / "v", 5)
    with pytest.raises(UserError, match="the list says 6 frames, the folder has 5"):
        read_frames(str(tmp_path / "v"), [0], 6)
    assert len(read_frames(str(tmp_path / "v"), [0, 3], 4)) == 2  # a smaller one is a choice


def damage(folder, how):
    frame = folder / "image_00003.jpg"
    if how == "gap":
        frame.unlink()
    elif how == "truncated":
        frame.write_bytes(frame.read_bytes()[:-400])
    elif how == "empty file":
        frame.write_bytes(b"")
    elif how == "text":
        frame.write_text("<html>not found</html>")
    elif how == "other size":
        Image.new("RGB", (20, 20)).save(frame)
    elif how == "two schemes":
        frame.rename(folder / "img_00003.jpg")
    elif how == "doubled":
        frame.rename(folder / "image_002.jpg")
    elif how == "no frames":
        for file in folder.iterdir():
            file.unlink()
    elif how == "no folder":
        folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize(
    "how, message",
    [
        ("gap", "the list says 5 frames, the folder has 4"),
        ("truncated", "image_00003.jpg cannot be decoded"),
        ("empty file", "image_00003.jpg cannot be decoded"),
        ("text", "image_00003.jpg cannot be decoded"),
        ("other size", "image_00003.jpg is 20x20, the other frames 48x36"),
        ("two schemes", "frames of different names"),
        ("doubled", "missing or doubled"),
        ("no frames", "no frames"),
        ("no folder", "no such folder"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(tmp_path, how, message):
    folder = write_frames(tmp_path / "v", 5)
    damage(folder, how)
    with pytest.raises(UserError, match=message) as error:
        read_frames(str(folder), [0, 1, 2, 3], 5)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "folder, count, shape",
    [
        ("ucf101_frames/v_000001", 25, (256, 340)),  # i_0001.jpg
        ("kinetics_frames/skydiving", 100, (256, 384)),  # 001.jpg
    ],
)
def test_frames_from_the_wild_load_as_they_are(shared, folder, count, shape):
    path = shared / "real" / folder
    assert len(frame_names(path)) == count
    clip = read_frames(str(path), [0, count // 2, count - 1], count)
    assert clip.shape == (3, *shape, 3)
    assert clip.std() > 20  # a picture


def test_one_bad_frame_leaves_the_others_readable(tmp_path):
    folder = write_frames(tmp_path / "v", 5)
    for how in ("truncated", "empty file", "text", "other size"):
        damage(folder, how)
        with pytest.raises(BadFrame, match="image_00003.jpg"):
            read_frames(str(folder), [0, 2], 5)
        assert len(read_frames(str(folder), [0, 1, 3, 4], 5)) == 4
    damage(folder, "gap")
    with pytest.raises(UserError) as error:
        read_frames(str(folder), [0], 5)
    assert not isinstance(error.value, BadFrame)


def test_a_folder_linked_to_itself_is_one_sentence(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "symbolic links" in one_sentence(count_frames, str(tmp_path / "loop"))


def test_hidden_files_beside_frames_are_no_frames(tmp_path):
    folder = write_frames(tmp_path / "v", 3)
    (folder / "._image_00001.jpg").write_bytes(b"of a Mac")
    assert count_frames(str(folder)) == 3


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "inside", ["", "v/", "deep/er/v/", "./v/", "/v/", "a//v/", "\u00fcber v/", "r\\v\\"]
)
def test_frames_in_a_zip_are_those_of_the_folder(tmp_path, compression, inside):
    folder = write_frames(tmp_path / "v", 12, scheme="{}.jpg")
    (folder / "notes.txt").write_text("not a frame")
    archive = zip_folder(tmp_path / "a.zip", folder, inside, compression=compression)
    zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "w", 2), "w/" if inside else "other/")
    name = os.path.normpath(inside.replace("\\", "/")).strip("/.")
    video = f"{archive}/{name}" if name else archive
    assert zip_videos(archive)[name] == count_frames(video) == 12
    indices = [0, 11, 3, 3]
    clip = read_frames(video, indices, 12)
    assert clip.tobytes() == read_frames(str(folder), indices, 12).tobytes()
    assert "says 13 frames, the folder has 12" in one_sentence(read_frames, video, [0], 13)
    assert exists(video) and not exists(f"{archive}/nowhere")


def test_the_zip_of_one_video_may_have_its_frames_in_a_folder(tmp_path):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 3), "v/")
    assert count_frames(archive) == count_frames(f"{archive}/v") == 3
    zip_folder(tmp_path / "a.zip", tmp_path / "v", "w/")
    assert "no numbered frames" in one_sentence(count_frames, archive)


def test_folders_with_the_names_of_files_are_folders(tmp_path):
    for name in ("clip.mp4", "clip.zip", "set.zip/clip.mp4"):
        assert count_frames(str(write_frames(tmp_path / name, 3))) == 3
    archive = zip_folder(tmp_path / "a.zip", tmp_path / "clip.mp4", "clip.mp4/")
    assert count_frames(f"{archive}/clip.mp4") == 3


def test_a_frame_that_is_damaged_in_a_zip_is_named(tmp_path):
    folder = write_frames(tmp_path / "v", 5)
    damage(folder, "truncated")
    archive = zip_folder(tmp_path / "a.zip", folder, "v/")
    with pytest.raises(BadFrame, match="a.zip/v/image_00003.jpg cannot be decoded"):
        read_frames(f"{archive}/v", [2], 5)
    data = (tmp_path / "a.zip").read_bytes()
    at = data.index(b"v/image_00004.jpg") - 30
    (tmp_path / "a.zip").write_bytes(data[:at] + b"noise" + data[at + 5 :])
    with pytest.raises(BadFrame, match="damaged"):
        read_frames(f"{archive}/v", [3], 5)
    assert len(read_frames(f"{archive}/v", [0, 4], 5)) == 2


def with_flag(data, flag):
    """A zip whose members all carry a flag in the table of contents."""
    parts = data.split(b"PK\1\2")
    return b"PK\1\2".join([parts[0], *(p[:4] + bytes([p[4] | flag]) + p[5:] for p in parts[1:])])


def spoil(archive, how):
    data = archive.read_bytes()
    if how == "cut off":
        archive.write_bytes(data[: len(data) // 2])
    elif how == "cut at the very end":
        archive.write_bytes(data[:-3])
    elif how == "front lost":
        archive.write_bytes(data[1000:])
    elif how == "empty":
        archive.write_bytes(b"")
    elif how == "text":
        archive.write_text("<html>not found</html>")
    elif how == "table damaged":
        archive.write_bytes(data.replace(b"PK\1\2", b"PK\1\3"))
    elif how == "encrypted":
        archive.write_bytes(with_flag(data, 1))
    elif how == "one part of several":
        archive.write_bytes(data[:-18] + b"\1" + data[-17:])
    elif how == "no frames":
        archive.unlink()
        with zipfile.ZipFile(archive, "w"):
            pass


@pytest.mark.parametrize(
    "how, message",
    [
        ("cut off", "its end is cut off"),
        ("cut at the very end", "its end is cut off"),
        ("front lost", "its end is cut off"),
        ("empty", "no zip"),
        ("text", "no zip"),
        ("table damaged", "table of contents is damaged"),
        ("encrypted", "is encrypted"),
        ("one part of several", "join them"),
        ("no frames", "no numbered frames"),
    ],
)
def test_a_spoiled_zip_is_one_clear_error(tmp_path, how, message):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 5), "v/")
    spoil(tmp_path / "a.zip", how)
    error = one_sentence(read_frames, f"{archive}/v", [0], 5)
    assert message in error
    assert archive in error


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "more, message",
    [
        (["../../v/image_00001.jpg"], "leads out of it"),
        (["a/../../v/image_00001.jpg"], "leads out of it"),
        (["v/image_00002.jpg"], "missing or doubled"),  # a second one
        (["v/image_00009.jpg"], "frame 4 is missing"),
        (["v/img_00004.jpg"], "frames of different names"),
    ],
)
def test_members_that_do_not_fit_are_one_clear_error(tmp_path, more, message):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 3), "v/")
    zip_folder(tmp_path / "a.zip", tmp_path / "v", "w/")
    with zipfile.ZipFile(archive, "a") as file:
        for name in more:
            file.writestr(name, b"")
    assert message in one_sentence(count_frames, f"{archive}/v")
    if "leads" not in message:
        assert zip_videos(archive) == {"v": 0, "w": 3}
        assert count_frames(f"{archive}/w") == 3  # the others are as good as before


def test_paths_of_a_list_stay_in_the_archive(tmp_path):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 3), "v/")
    assert "leads out of the archive" in one_sentence(count_frames, f"{archive}/../v")
    assert "no such folder" in one_sentence(count_frames, f"{tmp_path}/b.zip/v")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path, compression):
    folder = write_frames(tmp_path / "v", 3)
    archive = zip_folder(tmp_path / "a.zip", folder, "v/", compression=compression)
    assert "compressed by method" in one_sentence(count_frames, f"{archive}/v")


def test_a_zip_behind_a_program_and_with_a_comment_is_read(tmp_path):
    folder = write_frames(tmp_path / "v", 3)
    archive = tmp_path / "a.zip"
    zip_folder(archive, folder, "v/")
    with zipfile.ZipFile(archive, "a") as file:
        file.comment = b"PK" * 9999
    archive.write_bytes(b"#!/bin/sh" * 99 + archive.read_bytes())
    clip = read_frames(f"{archive}/v", [0, 2], 3)
    assert np.array_equal(clip, read_frames(str(folder), [0, 2], 3))


def test_names_of_an_old_packer_are_read_as_zipfile_reads_them(tmp_path):
    archive = tmp_path / "a.zip"
    zip_folder(archive, write_frames(tmp_path / "v", 3), "u_ber/")
    archive.write_bytes(archive.read_bytes().replace(b"u_ber", b"\x81_ber"))  # code page 437
    assert zip_videos(archive) == {"\u00fc_ber": 3}
    assert count_frames(f"{archive}/\u00fc_ber") == 3


def test_a_long_extra_field_does_not_matter(tmp_path):
    folder, archive = write_frames(tmp_path / "v", 3), f"{tmp_path}/a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            member = zipfile.ZipInfo(f"v/{path.name}")
            member.extra = b"\xfe\xca\xe8\x03" + bytes(1000)
            file.writestr(member, path.read_bytes())
    clip = read_frames(f"{archive}/v", [0, 1, 2], 3)
    assert np.array_equal(clip, read_frames(str(folder), [0, 1, 2], 3))


def test_frames_beyond_four_gigabytes_are_found(tmp_path):
    folder, archive = write_frames(tmp_path / "v", 3), tmp_path / "a.zip"
    with open(archive, "wb") as file:
        file.seek(5 << 30)  # a hole, which takes no place on the disk
        with zipfile.ZipFile(file, "w") as packer:
            for path in sorted(folder.iterdir()):
                packer.write(path, f"v/{path.name}")
    clip = read_frames(f"{archive}/v", [0, 2], 3)
    assert np.array_equal(clip, read_frames(str(folder), [0, 2], 3))


@pytest.fixture
def kept_index(monkeypatch):
    """Archives of any size get an index file, and none is open yet."""
    monkeypatch.setattr(zip_frames, "KEPT_FROM", 1)
    zip_frames._open_archive.cache_clear()


def test_the_index_of_a_large_zip_is_kept_and_made_again_when_it_changes(
    tmp_path, kept_index, monkeypatch
):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 3), "v/")
    assert count_frames(f"{archive}/v") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "a.zip.index", "v"]

    zip_frames._open_archive.cache_clear()
    with monkeypatch.context() as patch:
        patch.delattr(zip_frames, "build_index")  # not needed
        clip = read_frames(f"{archive}/v", [0, 1, 2], 3)
    assert np.array_equal(clip, read_frames(str(tmp_path / "v"), [0, 1, 2], 3))

    size = (tmp_path / "a.zip").stat().st_size
    with zipfile.ZipFile(archive, "w") as file:  # as large, in another order
        for path in sorted((tmp_path / "v").iterdir()):
            file.write(path, f"v/{path.name}")
    assert (tmp_path / "a.zip").stat().st_size == size
    assert np.array_equal(read_frames(f"{archive}/v", [0, 1, 2], 3), clip)

    zip_folder(tmp_path / "a.zip", tmp_path / "v", "w/")
    assert zip_videos(archive) == {"v": 3, "w": 3}
    for wrong in (b"", b"noise" * 99, (tmp_path / "a.zip.index").read_bytes()[:-1]):
        (tmp_path / "a.zip.index").write_bytes(wrong)
        zip_frames._open_archive.cache_clear()
        assert zip_videos(archive) == {"v": 3, "w": 3}


def test_a_zip_in_a_folder_that_cannot_be_written_is_read(tmp_path, kept_index, monkeypatch):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 3), "v/")

    def refuse(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert count_frames(f"{archive}/v") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "v"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_one_archive_at_the_same_time(tmp_path, method):
    folder = write_frames(tmp_path / "v", 8)
    archive = zip_folder(tmp_path / "a.zip", folder, "v/")
    expected = read_frames(str(folder), [0, 5, 7], 8)  # and the archive is open before the fork
    assert np.array_equal(read_frames(f"{archive}/v", [0, 5, 7], 8), expected)
    code = f"""
import multiprocessing, numpy, sys
from pt_dataset.sources import read_frames
def job(_):
    return all(read_frames({archive + "/v"!r}, [i], 8).tobytes() ==
               read_frames({str(folder)!r}, [i], 8).tobytes() for i in list(range(8)) * 20)
if __name__ == "__main__":
    read_frames({archive + "/v"!r}, [0], 8)
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        sys.exit(not all(pool.map(job, range(3), chunksize=1)))
"""
    (tmp_path / "job.py").write_text(code)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, tmp_path / "job.py"], env=env).returncode == 0


def test_open_archives_are_closed_when_others_take_their_place(tmp_path):
    folder = write_frames(tmp_path / "v", 1)
    for i in range(12):
        assert count_frames(zip_folder(tmp_path / f"{i}.zip", folder)) == 1
    open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert 1 <= sum(str(tmp_path) in path for path in open_files) <= 8


def write_flow(folder, scheme, value):
    """Five gray pictures: `value` plus ten times their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        picture = Image.fromarray(np.full((36, 48), value + 10 * i, np.uint8))
        picture.save(folder / scheme.format(i + 1), quality=95)


@pytest.mark.parametrize("kind", ["folder", "zip", "folder of frames"])
@pytest.mark.parametrize("layout", ["flow_x_, flow_y_", "u, v"])
def test_flow_is_u_and_v_of_each_layout(tmp_path, kind, layout):
    if layout == "u, v":
        write_flow(tmp_path / "flow/u/clip", "frame{:06d}.jpg", 20)
        write_flow(tmp_path / "flow/v/clip", "frame{:06d}.jpg", 120)
        folders, flow = ("flow/u/clip", "flow/v/clip"), "flow/{}/clip"
    else:
        write_flow(tmp_path / "clip", "flow_x_{:05d}.jpg", 20)
        write_flow(tmp_path / "clip", "flow_y_{:05d}.jpg", 120)
        folders, flow = ("clip",), "clip"
    if kind == "folder of frames":
        write_frames(tmp_path / folders[0], 6, scheme="img_{:05d}.jpg")
        if layout == "u, v":
            assert "different names" in one_sentence(count_flow, str(tmp_path / flow))
            return
        assert count_frames(str(tmp_path / flow)) == 6
    where = str(tmp_path)
    if kind == "zip":
        for folder in folders:
            where = zip_folder(tmp_path / "a.zip", tmp_path / folder, f"{folder}/")
    flow = f"{where}/{flow}"
    assert exists(flow)
    assert count_flow(flow) == 5
    fields = read_flow(flow, [0, 4, 1], 6)
    assert (fields.shape, fields.dtype) == ((3, 36, 48, 2), np.uint8)
    assert fields.flags.c_contiguous
    assert np.abs(fields.mean(axis=(1, 2)) - [[20, 120], [60, 160], [30, 130]]).max() < 1
    assert "5 fields of flow where the list says 7 frames" in one_sentence(read_flow, flow, [0], 7)


def test_flow_that_does_not_fit_together_is_one_sentence(tmp_path):
    write_flow(tmp_path / "clip", "flow_x_{:05d}.jpg", 20)
    assert "no frames" in one_sentence(count_flow, str(tmp_path / "clip"))
    write_flow(tmp_path / "clip", "flow_y_{:05d}.jpg", 20)
    Image.new("L", (20, 10)).save(tmp_path / "clip" / "flow_y_00001.jpg")
    assert "are 48x36, v 20x10" in one_sentence(read_flow, str(tmp_path / "clip"), [0], 6)
    (tmp_path / "clip" / "flow_y_00005.jpg").unlink()
    assert "5 pictures of u, 4 of v" in one_sentence(count_flow, str(tmp_path / "clip"))
    assert not exists(f"{tmp_path}/{{}}/clip")


UNEVEN = [0.1 * i + 0.03 * (i % 3) for i in range(20)]  # seconds


@pytest.mark.parametrize("gop", ["4", "250"])
@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("a.avi", "mpeg4", {}),
        ("a.avi", "libx264", {}),
        ("a.mp4", "libx264", {}),
        ("a.mp4", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("a.mkv", "libx264", {}),
        ("uneven.mkv", "libx264", {"times": UNEVEN}),
        ("a.ts", "libx264", {}),
        ("a.mpg", "mpeg2video", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a:b.mp4", "mpeg4", {"size": (65, 49)}),  # neither a URL nor an even size
    ],
)
def test_frame_k_of_a_video_is_the_kth_that_is_shown(tmp_path, name, codec, options, gop):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    video = str(write_video(tmp_path / name, codec=codec, g=gop, **options))
    assert count_frames(video) == 20
    for indices in (list(range(20)), [13], [19, 0, 7, 7], [5, 6, 7, 8], [18, 19]):
        clip = read_frames(video, indices, 20)
        assert clip.shape[1:] == (*options.get("size", (64, 48))[::-1], 3)
        assert clip.flags.c_contiguous
        assert levels(clip) == indices


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mkv", "libx264")])
def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch, name, codec):
    video = str(write_video(tmp_path / name, codec=codec, g="5", count=23))
    monkeypatch.delattr(video_file, "first_frames")  # which decodes from the start
    decoded = []
    frames_from = video_file.frames_from
    monkeypatch.setattr(
        video_file,
        "frames_from",
        lambda *args: (decoded.append(f) or f for f in frames_from(*args)),
    )
    assert levels(read_frames(video, [12, 22], 23)) == [12, 22]
    assert len(decoded) <= 3 + 3
    decoded.clear()
    assert levels(read_frames(video, list(range(6, 23)), 23)) == list(range(6, 23))
    assert [frame.pts for frame in decoded] == sorted({frame.pts for frame in decoded})
    assert len(decoded) == 18  # each once, though decoding could start at three of them


def test_where_seeking_misleads_a_video_is_decoded_from_the_start(tmp_path, monkeypatch):
    video = str(write_video(tmp_path / "a.mkv", codec="libx264", g="5"))
    monkeypatch.setattr(video_file, "frames_from", lambda *args: iter(()))
    assert levels(read_frames(video, [12, 3], 20)) == [12, 3]
    stamps = video_file.read_stamps(video)
    late = stamps._replace(keys=stamps.keys + 1)  # no frame is there
    monkeypatch.undo()
    monkeypatch.setattr(video_file, "read_stamps", lambda path: late)
    assert levels(read_frames(video, [12, 3, 0], 20)) == [12, 3, 0]


def test_a_list_that_claims_more_frames_than_a_video_has_is_an_error(tmp_path):
    for name in ("a.mkv", "a.avi"):
        video = str(write_video(tmp_path / name))
        message = "the list says 30 frames, the video has 20"
        assert message in one_sentence(read_frames, video, [3], 30)
        assert levels(read_frames(video, [3], 15)) == [3]  # fewer are a choice


@pytest.mark.parametrize("matrix, shape, dark", ROTATIONS)
def test_a_rotated_video_is_read_upright(tmp_path, matrix, shape, dark):
    video = str(write_rotated(tmp_path / "a.mp4", matrix))
    clip = read_frames(video, [2, 0], 3)
    assert clip.shape == (2, *shape, 3)
    assert clip.flags.c_contiguous
    assert clip[(slice(None), *(dark if isinstance(dark, tuple) else (dark,)))].max() < 70
    assert clip.mean() > 100


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_video_is_one_sentence(tmp_path, name):
    write, reason = BROKEN[name]
    write(tmp_path / name)
    video = str(tmp_path / name)
    assert re.search(f"{name} cannot be decoded: .*({reason})", one_sentence(count_frames, video))
    assert video in one_sentence(read_frames, video, [0, 59], 60)


def test_a_video_that_is_not_there_is_one_sentence(tmp_path):
    for action in (lambda video: read_frames(video, [0], 1), count_frames):
        assert "No such file" in one_sentence(action, str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("color_space, red_weight, blue_weight", COLOR_SPACES)
def test_colors_of_a_video_survive(color_space, red_weight, blue_weight):
    color = (200, 30, 40)
    frame = frame_of(color, color_space, red_weight, blue_weight)
    to_picture = video_file.Converter(SimpleNamespace(width=80, height=60))
    assert np.abs(to_picture(frame).astype(int) - color).max() <= 4


def test_what_an_edit_list_cuts_away_is_not_counted(tmp_path):
    whole, video = write_video(tmp_path / "whole.mp4", codec="libx264", g="5"), tmp_path / "a.mp4"
    as_is = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as source, av.open(str(video), "w", options=as_is) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        shift = round(7 / 30 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    stream,
                )
                out.mux(packet)
    assert count_frames(str(video)) == len(extracted(video, tmp_path / "out")) == 13
    assert len(video_file.read_stamps(str(video)).shown) == 13
    assert levels(read_frames(str(video), [0, 1, 12], 13)) == [7, 8, 19]


def test_only_videos_have_a_frame_rate(tmp_path):
    assert measure(str(write_video(tmp_path / "a.mkv", rate=25))).fps == 25
    assert measure(str(write_video(tmp_path / "b.avi", rate=30))).fps == 30
    assert measure(str(write_frames(tmp_path / "v", 2))).fps is None


def test_a_video_that_changes_is_looked_at_again(tmp_path):
    video = tmp_path / "a.mkv"
    for count in (5, 20):
        write_video(video, count=count)
        assert levels(read_frames(str(video), [count - 1], count)) == [count - 1]


@pytest.mark.parametrize(
    "name, count",
    [
        ("videos/kinetics_arm_wrestling.mp4", 280),
        ("videos/test.avi", 164),
        ("asl20/no/no.mkv", 66),
        ("ut_interaction/handshaking/set1_17_seq3.avi", 121),  # two frames in one packet
    ],
)
def test_a_real_video_has_the_frames_of_its_extraction(shared, tmp_path, name, count):
    video = str(shared / "real" / name)
    extract_frames.write_frames(Path(video), tmp_path, AS_STORED)
    assert count_frames(video) == count_frames(str(tmp_path)) == count
    whole = list(range(count))
    pieces = [read_frames(video, whole[i : i + 32], count) for i in range(0, count, 32)]
    pictures = np.concatenate(pieces)[:, ::4, ::4].astype(np.int16)
    frames = read_frames(str(tmp_path), whole, count)[:, ::4, ::4]
    own = np.abs(pictures - frames).mean(axis=(1, 2, 3))
    assert own.max() < 2.5
    for a, b in ((pictures[1:], frames[:-1]), (pictures[:-1], frames[1:])):  # neighbors
        other = np.abs(a - b).mean(axis=(1, 2, 3))
        assert (other > np.maximum(own[1:], own[:-1]) - 0.2).all()  # some stand still
        assert other.mean() > 1.5 * own.mean()
