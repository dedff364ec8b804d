"""Odd and damaged pictures: what a frame is to be seen as, and that damage is never swallowed."""

import io
import zlib

import numpy as np
import pytest
import simplejpeg
from conftest import write_frames
from PIL import Image, ImageOps

from pt_dataset.listing.check_video import check_video
from pt_dataset.sources import BadFrame, decoded, read_frames
from pt_dataset.video_list import Video

ORIENTATION = 0x0112


def picture(height=48, width=64, seed=0):
    """Clouds, so that each of the eight orientations looks different, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, kind="JPEG", orientation=None, **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_pillow(data, mode="RGB"):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))


@pytest.mark.parametrize("orientation", range(9))  # 0 is none of the eight, and often written
@pytest.mark.parametrize(
    "kind, options",
    [
        ("JPEG", {}),
        ("JPEG", {"icc_profile": bytes(5000)}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
    ],
)
def test_exif_turns_a_picture(kind, options, orientation):
    data = encoded(picture(), kind, orientation, quality=95, **options)
    frame = decoded(data, 3)
    assert frame.flags.c_contiguous
    assert frame.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert np.array_equal(frame, as_pillow(data))
    assert np.abs(decoded(data, 1)[..., 0].astype(int) - as_pillow(data, "L")).max() <= 2


def test_exif_turns_cmyk_and_frames_of_a_folder_that_others_stand_beside(tmp_path):
    cmyk = encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG", 6)
    assert np.array_equal(decoded(cmyk, 3), as_pillow(cmyk))
    folder = write_frames(tmp_path / "v", 3, size=(64, 48))
    (folder / "image_00002.jpg").write_bytes(encoded(picture(64, 48), "JPEG", 8))
    assert read_frames(str(folder), [0, 1, 2], 3).shape == (3, 48, 64, 3)
    assert check_video(Video(str(folder), 0, "a", 3), None).problems == []
    (folder / "image_00002.jpg").write_bytes(encoded(picture(48, 64), "JPEG", 8))
    with pytest.raises(BadFrame, match="image_00002.jpg is 48x64, the other frames 64x48"):
        read_frames(str(folder), [0, 1, 2], 3)
    problems = check_video(Video(str(folder), 0, "a", 3), None).problems
    assert [problem.kind for problem in problems] == ["mixed sizes"]


def test_sixteen_bits_of_gray_become_their_upper_eight():
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    shown = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    for kind in ("PNG", "TIFF", "PPM"):
        data = encoded(values, kind)
        assert np.array_equal(decoded(data, 3), shown)
        assert np.array_equal(decoded(data, 1), shown[..., :1])
    dark = encoded((values >> 4).astype(np.uint16), "PNG")  # depth that fills 12 bits stays dark
    assert decoded(dark, 3).max() == 15
    big_endian = b"MM\0*" + encoded_tiff(values.byteswap().tobytes())
    assert np.array_equal(decoded(big_endian, 3), shown)


def encoded_tiff(pixels):
    """A TIFF of 256 x 256 gray values of 16 bits after its first four bytes, big-endian."""
    tags = [(256, 256), (257, 256), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 256)]
    tags.append((279, len(pixels)))
    rows = b"".join(
        tag.to_bytes(2, "big") + b"\0\4\0\0\0\1" + value.to_bytes(4, "big") for tag, value in tags
    )
    end = (8 + len(pixels)).to_bytes(4, "big")
    return end + pixels + len(tags).to_bytes(2, "big") + rows + bytes(4)


def png(bits, color, pixels, width, height):
    """A PNG by hand, since Pillow writes no 16 bits of color."""

    def chunk(name, data):
        whole = name + data
        return len(data).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, color, 0, 0, 0])
    lines = b"".join(b"\0" + line for line in pixels)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_other_depths_and_transparency_of_png_are_right():
    values = np.random.default_rng(1).integers(0, 1 << 16, (5, 4, 4)).astype(">u2")
    for color, channels in ((2, 3), (6, 4)):  # RGB, RGBA: what is transparent keeps its color
        data = png(16, color, [row[:, :channels].tobytes() for row in values], 4, 5)
        assert np.array_equal(decoded(data, 3), values[..., :3] >> 8)
    data = png(16, 4, [row[:, :2].tobytes() for row in values], 4, 5)  # gray and alpha
    assert np.array_equal(decoded(data, 3)[..., 1], values[..., 0] >> 8)
    data = png(1, 0, [b"\xa0", b"\x50"], 4, 2)
    assert (decoded(data, 3)[..., 0] / 255).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    palette = Image.fromarray(picture()).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(decoded(encoded(palette, "PNG", transparency=3), 3), expected)


@pytest.mark.parametrize(
    "values, why",
    [
        (np.full((8, 8), 0.5, np.float32), "no known range"),
        (np.full((8, 8), 70000, np.int32), "32 bits"),
        (np.full((8, 8), -1, np.int32), "32 bits"),
    ],
)
def test_numbers_that_are_no_gray_are_refused(values, why):
    with pytest.raises(ValueError, match=why):
        decoded(encoded(values, "TIFF"), 3)


def warned(kind):
    """A JPEG of which libjpeg says a word, in silence swallowed by Pillow."""
    data = encoded(picture(), "JPEG", quality=95)
    scan = data.index(b"\xff\xda")
    if kind == "cut":
        return data[:-200]
    if kind == "no end":
        return data[:-2]
    if kind == "one bit":
        return next(
            data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
            for at in range(scan + 200, len(data))
            if complains(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        )
    if kind == "lost in the middle":
        return data[: scan + 300] + bytes(100) + data[scan + 400 :]
    return data[:scan] + b"\0\0" + data[scan:]  # noise before a marker


def complains(data):
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("turn", [None, 6])
@pytest.mark.parametrize("kind", ["cut", "no end", "one bit", "lost in the middle", "noise"])
def test_a_jpeg_with_a_warning_is_a_bad_frame(tmp_path, kind, turn):
    data = warned(kind)
    if turn:  # the way of pictures with EXIF
        data = data[:2] + encoded(picture(), "JPEG", turn)[20:].partition(b"\xff\xdb")[0] + data[2:]
        assert np.shape(Image.open(io.BytesIO(data)).getexif()[ORIENTATION]) == ()
    folder = write_frames(tmp_path / "v", 4, size=(64, 48))
    (folder / "image_00003.jpg").write_bytes(data)
    with pytest.raises(BadFrame, match="image_00003.jpg cannot be decoded") as error:
        read_frames(str(folder), [1, 2, 3], 4)
    assert error.value.index == 2
    (problem,) = check_video(Video(str(folder), 0, "a", 4), None).problems
    assert problem.kind == "bad frame"


def test_a_damaged_jpeg_of_cmyk_is_a_bad_frame():
    for form in ({}, {"progressive": True}):
        data = encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG", **form)
        assert np.array_equal(decoded(data, 3), as_pillow(data))
        with pytest.raises(ValueError, match=r"[Pp]remature end"):
            decoded(data[:-2], 3)


def test_a_jpeg_that_is_whole_is_taken_whatever_its_form():
    image = Image.fromarray(picture())
    forms = [{"progressive": True}, {"keep_rgb": True}, {"restart_marker_rows": 1}]
    forms += [{"subsampling": s, "quality": q} for s in range(3) for q in (1, 50, 100)]
    for options in forms:
        data = encoded(image, "JPEG", **options)
        assert np.array_equal(decoded(data, 3), as_pillow(data))
        assert np.array_equal(decoded(data + b"behind the end", 3), as_pillow(data))


def test_a_damaged_sampling_of_colors_is_a_bad_frame():
    data = encoded(picture(), "JPEG", subsampling=0)
    at = data.index(b"\xff\xc0") + 11
    for factors in (b"\x14", b"\x44", b"\x31"):  # of the first, simplejpeg raises KeyError
        with pytest.raises(ValueError):
            decoded(data[:at] + factors + data[at + 1 :], 3)


def test_a_header_that_claims_a_huge_picture_costs_no_memory():
    jpeg, png = (encoded(picture(), kind) for kind in ("JPEG", "PNG"))
    at = jpeg.index(b"\xff\xc0") + 5
    with pytest.raises(ValueError, match="65280x65280 is larger than any frame"):
        decoded(jpeg[:at] + b"\xff\0\xff\0" + jpeg[at + 4 :], 3)
    header = png[12:16] + b"\0\0\x23\0" * 2 + png[24:29]  # 8960 x 8960
    png = png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
    with pytest.raises(ValueError, match="8960x8960 is larger than any frame"):
        decoded(png, 3)


def test_checksums_of_png_are_checked():
    data = encoded(picture(), "PNG")
    at = data.index(b"IDAT") + 400
    for wrong in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:-30], data[:-8]):
        with pytest.raises(ValueError):
            decoded(wrong, 3)
