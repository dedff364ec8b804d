"""Pictures that are no plain JPEG: PNG and the like, 16 bits, CMYK, or turned by their EXIF; and
those of another size than the others of a video."""

import contextlib
import io
from collections import Counter
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from pt_dataset import sources
from pt_dataset.sources import JPEG, MAX_PIXELS


def decoded(data: bytes, channels: int) -> np.ndarray:
    """A picture as it is to be seen, uint8 (H, W, channels): 3 of RGB or 1 of gray.

    Of 16 bits the upper 8 stay, whatever the picture: the same value is the same gray everywhere.

    Raises:
        ValueError: it cannot be decoded, or is damaged as far as its format can tell: PNG has
            checksums and libjpeg knows for JPEG; BMP and WebP only show that they are cut off.
    """
    if not data:
        raise ValueError("it is empty, as the file of a frame that is damaged in the video")
    with opened(data) as image:
        image.verify()  # the checksums of PNG, which decoding ignores; it cannot be used afterwards
    with opened(data) as image:
        if data.startswith(JPEG):
            colors = "CMYK" if image.mode == "CMYK" else "RGB" if channels == 3 else "GRAY"
            picture = simplejpeg.decode_jpeg(data, colors)  # which does not swallow a warning
            if colors != "CMYK":  # Pillow knows that Adobe stores these inverted
                return turned(picture, orientation(image))
        image.load()  # PNG may have its EXIF behind the pixels
        picture = np.asarray(eight_bits(image).convert("RGB" if channels == 3 else "L"))
        return turned(picture.reshape(*picture.shape[:2], channels), orientation(image))


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} is larger than any frame")
            yield image
    except UnidentifiedImageError:
        raise ValueError("it is no picture") from None  # Pillow names an object in memory
    except Exception as error:  # the readers of damaged files raise whatever they run into
        raise ValueError(str(error) or type(error).__name__) from None


def orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """A picture (H, W, C) turned and mirrored as its EXIF says (1: as it is), contiguous."""
    if orientation in (5, 6, 7, 8):
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits of gray with their upper 8; any other as it is."""
    if image.mode == "F":
        raise ValueError("its pixels have no known range; write them as integers of 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image  # 16 bits of RGB, too, become their upper 8 in Pillow
    values = np.asarray(image)
    if values.min() < 0 or values.max() >= 1 << 16:  # which "I" may have
        raise ValueError("its pixels have 32 bits; write them with 8 or 16")
    return Image.fromarray((values >> 8).astype(np.uint8))


def odd_one(pictures: sources.Pictures, indices: list[int]) -> sources.BadFrame:
    """The error that names the first frame of another size than most of `indices` have."""
    sizes = {}
    for index in indices:
        with contextlib.suppress(OSError, ValueError):  # a broken one has no size
            sizes[index] = sources.decoded(pictures.read(index), channels=3).shape[:2]
    usual = Counter(sizes.values()).most_common(1)[0][0]
    odd = next(index for index, size in sizes.items() if size != usual)
    words = "{1}x{0}, the other frames {3}x{2}".format(*sizes[odd], *usual)
    return sources.BadFrame(f"{pictures.name(odd)} is {words}; extract the video again", odd)
