import numpy as np
import pytest
from conftest import write_frames
from PIL import Image

from config import UserError
from pt_dataset.sources import frame_names, read_frames


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
        ("gap", "frame 3 is missing"),
        ("truncated", "image_00003.jpg cannot be decoded"),
        ("empty file", "image_00003.jpg cannot be decoded"),
        ("text", "image_00003.jpg cannot be decoded"),
        ("other size", "image_00003.jpg is 20x20, the frames before it 48x36"),
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
        read_frames(str(folder), [0, 1, 2, 3], 4)
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
