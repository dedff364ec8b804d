"""Damage in a zip is a bad frame, or one sentence about the zip; never other bytes in silence."""

import struct
import zipfile

import pytest
from conftest import write_frames
from test_sources import kept_index, one_sentence, zip_folder  # noqa: F401

from config import UserError
from pt_dataset.formats import zip_frames
from pt_dataset.formats.measure import count_frames
from pt_dataset.formats.zip_frames import ZipFrames, zip_videos
from pt_dataset.listing.check_video import check_video
from pt_dataset.sources import BadFrame, read_frames
from pt_dataset.video_list import Video

BIG = 3 << 30  # bytes


@pytest.fixture
def archive(tmp_path):
    zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 4), "set/v/")
    zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "w", 3), "set/w/")
    return tmp_path / "a.zip"


def content(archive):
    """What is in an archive: by folder, the bytes of frames, None of those that are bad.

    None for an archive or a folder that is refused.
    """
    zip_frames._open_archive.cache_clear()
    found = {}
    try:
        for folder in zip_videos(archive):
            try:
                pictures = ZipFrames(str(archive), folder)
            except UserError:
                found[folder] = None
                continue
            found[folder] = []
            for index in range(len(pictures)):
                try:
                    found[folder].append(pictures.read(index))
                except ValueError as error:
                    assert str(error) and pictures.name(index)
                    found[folder].append(None)
    except UserError as error:
        assert "\n" not in str(error)
        return None
    return found


def entry(archive, name, field, form, *values):
    """Writes into the entry of a member in the directory of an archive, at byte `field`."""
    data = bytearray(archive.read_bytes())
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\1\2"
    struct.pack_into(form, data, at + field, *values)
    archive.write_bytes(data)


@pytest.mark.parametrize(
    "field, form, values, why",
    [
        (16, "<L", [1], "damaged or cut off"),  # checksum
        (20, "<2L", [BIG, BIG], "entry in the archive is damaged"),
        (24, "<L", [BIG], "entry in the archive is damaged"),
        (24, "<L", [5], "damaged or cut off"),
        (20, "<L", [5], "damaged or cut off"),
        (8, "<H", [1], "entry in the archive is damaged"),  # encrypted, it alone
        (10, "<H", [12], "entry in the archive is damaged"),  # compressed otherwise, it alone
        (42, "<L", [0], "damaged there"),  # the place of another one
    ],
)
def test_a_member_that_is_not_as_its_entry_says_is_a_bad_frame(archive, field, form, values, why):
    entry(archive, "set/v/image_00003.jpg", field, form, *values)
    video = f"{archive}/set/v"
    with pytest.raises(BadFrame, match=why) as error:
        read_frames(video, [0, 1, 2, 3], 4)
    assert error.value.index == 2
    assert ("frame 3" if field == 42 else "image_00003.jpg") in str(error.value)
    assert len(read_frames(video, [0, 1, 3], 4)) == 3
    (problem,) = check_video(Video(video, 0, "a", 4), None).problems
    assert (problem.kind, "1 bad of 4" in problem.message) == ("bad frame", True)


def test_two_members_that_changed_places_are_bad_frames(archive):
    data = archive.read_bytes()
    data = data.replace(b"image_00002", b"image_0000x", 1).replace(
        b"image_00003", b"image_00002", 1
    )
    archive.write_bytes(data.replace(b"image_0000x", b"image_00003"))
    assert [frame is None for frame in content(archive)["set/v"]] == [False, True, True, False]


@pytest.mark.parametrize(
    "old, new",
    [
        (b"image_00004.jpg", b"image_00004.jqg"),  # one frame fewer, were it believed
        (b"image_00004.jpg", b"image_0000t.jpg"),
        (b"image_00004.jpg", b"image_0000\0.jpg"),
        (b"image_00004.jpg", b"image_00004/jpg"),
    ],
)
def test_a_name_that_is_no_frame_any_more_is_no_shorter_video(archive, old, new):
    data = archive.read_bytes()
    at = data.rindex(old)
    archive.write_bytes(data[:at] + new + data[at + len(old) :])
    assert "table of contents is damaged" in one_sentence(count_frames, f"{archive}/set/v")


def test_files_beside_the_frames_do_not_matter(archive):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("set/v/n_frames", b"4")
        file.writestr("set/x/", b"")  # a folder
        file.writestr("set/v/", b"")
    assert zip_videos(archive) == {"set/v": 4, "set/w": 3}


@pytest.mark.parametrize("count", [6, 8])
def test_the_end_record_counts_the_members(archive, count):
    data = archive.read_bytes()
    archive.write_bytes(data[:-14] + struct.pack("<2H", count, count) + data[-10:])
    assert "table of contents is damaged" in one_sentence(count_frames, f"{archive}/set/v")


def test_an_entry_that_leads_behind_the_members_is_a_damaged_directory(archive):
    entry(archive, "set/v/image_00003.jpg", 42, "<L", archive.stat().st_size)
    assert "table of contents is damaged" in one_sentence(count_frames, f"{archive}/set/v")


def test_a_small_member_that_unpacks_to_gigabytes_is_a_bad_frame(tmp_path):
    archive = zip_folder(tmp_path / "a.zip", write_frames(tmp_path / "v", 2), "v/")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("v/image_00003.jpg", bytes(1 << 24))
    entry(tmp_path / "a.zip", "v/image_00003.jpg", 24, "<L", 1000)  # than it says
    with pytest.raises(BadFrame, match="damaged"):
        read_frames(f"{archive}/v", [2], 3)


def test_a_damaged_index_is_made_again(archive, kept_index):  # noqa: F811
    index, whole = archive.with_name("a.zip.index"), content(archive)
    data = index.read_bytes()
    for wrong in (b"", data[:-1], data + b"more", data[:8], data[:40] + b"x" + data[41:]):
        index.write_bytes(wrong)
        assert content(archive) == whole
        assert index.read_bytes() == data
