"""Bytes of an image file → the RGB pixels that a person sees, within limits that are checked before decoding."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from service.engine.bombs import refuse_scans, refuse_tiles
from service.errors import NotAnImage, TooLarge, UnreadableImage

try:  # the extra "heic": its wheels hold libraries under the LGPL and GPL, so nothing of it is installed by default
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()

# Our own limit is checked on the header, before any pixel is decoded; Pillow's would only warn at half of it.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,  # AVIF writes its EXIF anew while it opens, and stumbles over tags of an unexpected type
    OverflowError,
    RuntimeError,  # libavif and libheif, for a frame that does not decode
    struct.error,
    zlib.error,
)
_TURNS = {  # by orientation tag, as ImageOps.exif_transpose turns
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PIECE = 1 << 18  # values that are scaled at once: in float64 a whole image of the largest size would need gigabytes
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class ImageLimits:
    """What may be decoded: `max_pixels` of width x height."""

    max_pixels: int = 100_000_000


@dataclass(frozen=True)
class DecodedImage:
    """`rgb`: (H, W, 3) uint8, upright. `exif_orientation`: the tag (1..8) that was applied to make it so."""

    rgb: NDArray[np.uint8]
    exif_orientation: int


def decode(data: bytes, limits: ImageLimits) -> DecodedImage:
    """Decode the first frame, turned upright, transparency laid over white.

    Raises NotAnImage when no decoder knows the bytes, TooLarge when the header announces more pixels than
    allowed or the file more work than its pixels are, UnreadableImage when decoding fails.
    """
    rgb, orientation = _upright(data, limits)  # returns before the next line, so that the image as stored is freed
    # A copy, since torch wants writable memory. np.array(rgb) would make more than one.
    return DecodedImage(np.asarray(rgb).copy(), orientation)


def _upright(data: bytes, limits: ImageLimits) -> tuple[Image.Image, int]:
    """The image in RGB, turned, and the orientation tag by which it was."""
    with _open(data) as image:
        _check_size(image, limits)
        _check_work(image, data, limits)
        try:
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                return _tiff_upright(image)
            image.load()
            orientation = _exif_orientation(image)
            rgb = _to_rgb(image)
            # Not ImageOps.exif_transpose: it writes the whole EXIF anew, and fails on tags that have no say here.
            return (rgb.transpose(_TURNS[orientation]) if orientation in _TURNS else rgb), orientation
        except _DECODER_ERRORS as error:
            raise UnreadableImage(f"image: the {image.format} data cannot be decoded ({error})") from error


def _open(data: bytes) -> Image.Image:
    if not data:
        raise NotAnImage("image: the file is empty")
    try:
        return Image.open(io.BytesIO(data), formats=_available_formats())
    except UnidentifiedImageError as error:
        begun = _begins_like(data)
        if begun:
            raise UnreadableImage(f"image: the {begun} data is damaged, or of a kind that is not read") from error
        raise NotAnImage(f"image: the {len(data)} bytes are not {_allowed()}") from error
    except _DECODER_ERRORS as error:
        raise UnreadableImage(f"image: the header cannot be read ({error})") from error


def _available_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _allowed() -> str:
    """What this process reads, in words: "JPEG, PNG or WebP"."""
    usual = {"WEBP": "WebP", "HEIF": "HEIC"}
    *first, last = [usual.get(name, name) for name in _available_formats() if name != "MPO"]
    return f"{', '.join(first)} or {last}"


def _begins_like(data: bytes) -> str:
    """The format whose mark the bytes begin with; "" for none."""
    for name in _available_formats():
        accept = Image.OPEN[name][1]
        if accept is not None and accept(data[:16]) is True:
            return name
    return ""


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise TooLarge(
            f"image: {image.width} x {image.height} = {image.width * image.height} pixels; "
            f"at most {limits.max_pixels} are allowed (MAX_PIXELS): make the image smaller"
        )


def _check_work(image: Image.Image, data: bytes, limits: ImageLimits) -> None:
    if isinstance(image, JpegImagePlugin.JpegImageFile):  # an MPO is one as well
        refuse_scans(data)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        refuse_tiles(data, image, limits.max_pixels)


def _tiff_upright(image: TiffImagePlugin.TiffImageFile) -> tuple[Image.Image, int]:
    """Pillow turns a TIFF while it loads, and forgets the tag; without that tag it would turn by what XMP says."""
    orientation = _known(image.tag_v2.get(ExifTags.Base.Orientation))
    image.info.pop("xmp", None)
    image.load()
    return _to_rgb(image), orientation


def _exif_orientation(image: Image.Image) -> int:
    """The tag as EXIF has it; Image.getexif() would make it up from XMP where EXIF has none."""
    exif = Image.Exif()
    try:
        exif.load(_exif_bytes(image.info))
        return _known(exif.get(ExifTags.Base.Orientation))
    except _DECODER_ERRORS:
        return 1  # the pixels may be fine, and nothing says that they are to be turned


def _exif_bytes(info: dict[str | tuple[int, int], Any]) -> bytes:
    """The EXIF block, which ImageMagick used to keep in a PNG as hexadecimal text below a title and a length."""
    if "exif" not in info and "Raw profile type exif" in info:
        return bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
    return info.get("exif") or b""


def _known(orientation: Any) -> int:
    """1 for what is no orientation. As in Pillow a tag counts by its value, whatever its type."""
    return int(orientation) if orientation in range(1, 9) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_MODES:
        return Image.fromarray(_narrow(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrow(image: Image.Image) -> NDArray[np.uint8]:
    """Wide grey values → 8 bit: a PNG as a viewer shows it, measured data (TIFF) from its 1st to 99th percentile."""
    values = np.asarray(image)
    low, high = (0.0, 65535.0) if image.format == "PNG" else _spread(values)
    narrow = np.empty(values.shape, np.uint8)
    for start in range(0, values.size, _PIECE):
        piece = slice(start, start + _PIECE)
        narrow.reshape(-1)[piece] = _scaled(values.reshape(-1)[piece], low, high)
    return narrow


def _spread(values: NDArray[Any]) -> tuple[float, float]:
    """The 1st and 99th percentile of what is finite."""
    floats = values.dtype.kind == "f"
    if floats:
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 65535.0
    low, high = np.percentile(values, np.array([1.0, 99.0]), overwrite_input=floats)  # then it is a copy already
    return float(low), float(high)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    wide = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    return (np.clip((wide - low) / max(high - low, 1e-12), 0, 1) * 255 + 0.5).astype(np.uint8)
