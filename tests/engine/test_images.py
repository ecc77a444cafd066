from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from service.engine.images import ImageLimits, decode
from service.errors import NotAnImage, ServiceError, TooLarge, UnreadableImage

LIMITS = ImageLimits(max_pixels=1_000_000)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_decodes_the_usual_formats(image_format: str) -> None:
    decoded = decode(encoded(gradient(), image_format), LIMITS)
    assert decoded.rgb.shape == (30, 40, 3)
    assert decoded.rgb.dtype == np.uint8
    assert np.abs(decoded.rgb.astype(int) - np.asarray(gradient()).astype(int)).mean() < 4


@pytest.mark.parametrize(
    ("image", "image_format"),
    [
        (gradient("1"), "PNG"),
        (gradient("L"), "JPEG"),
        (gradient("CMYK"), "JPEG"),
        (gradient("LA"), "PNG"),
        (Image.new("RGB", (1, 1), "red"), "PNG"),
    ],
    ids=["one bit", "grey", "CMYK", "grey with alpha", "1x1"],
)
def test_every_mode_becomes_rgb(image: Image.Image, image_format: str) -> None:
    decoded = decode(encoded(image, image_format), LIMITS)
    assert decoded.rgb.shape == (image.height, image.width, 3)


def test_cmyk_keeps_its_colours() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 30)).convert("CMYK")
    colour = decode(encoded(red, "JPEG", quality=95), LIMITS).rgb[8, 8]
    np.testing.assert_allclose(colour, (220, 30, 30), atol=12)


def test_transparent_palette_pixels_become_white() -> None:
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 1), 1)
    rgb = decode(encoded(palette, "PNG", transparency=0), LIMITS).rgb
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[1, 1].tolist() == [200, 0, 0]


def test_sixteen_bit_png_is_shown_as_a_viewer_does() -> None:
    values = np.array([[0, 32768, 65535]], np.uint16)
    rgb = decode(encoded(Image.fromarray(values), "PNG"), LIMITS).rgb
    assert rgb[0, :, 0].tolist() == [0, 128, 255]


def test_measured_tiffs_are_stretched_between_percentiles() -> None:
    values = np.linspace(-3, 5, 10_000, dtype=np.float32).reshape(100, 100)
    values[0, 0] = np.nan
    rgb = decode(encoded(Image.fromarray(values), "TIFF"), LIMITS).rgb
    assert rgb.min() == 0
    assert rgb.max() == 255
    assert abs(int(rgb[50, 0, 0]) - 127) <= 2


def ramp(dtype: npt.DTypeLike, low: float, high: float) -> Image.Image:
    values = np.linspace(low, high, 1_000_000).astype(dtype).reshape(800, 1250)
    return Image.fromarray(np.random.default_rng(0).permutation(values))


WIDE = {
    "PNG": (ramp(np.uint16, 0, 65535), 0, 65535),
    "TIFF of 16 bits": (ramp(np.uint16, 300, 40_000), 697, 39_603),
    "TIFF of 32 bits": (ramp(np.int32, 2e9, 2e9 + 4000), 2e9 + 40, 2e9 + 3960),
    "TIFF of floats": (ramp(np.float32, -3, 5), -2.92, 4.92),
}


@pytest.mark.parametrize("kind", WIDE)
def test_wide_values_are_narrowed_in_little_memory(kind: str) -> None:
    """What numpy holds at its worst, the copies of the RGB pixels included."""
    image, low, high = WIDE[kind]
    data = encoded(image, kind.split()[0])
    tracemalloc.start()
    rgb = decode(data, LIMITS).rgb
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes <= 16 * image.width * image.height
    expected = np.clip((np.asarray(image, np.float64) - low) / (high - low), 0, 1) * 255
    assert np.abs(rgb[..., 0] - expected).max() <= 1


def exif_block(*entries: tuple[int, int, bytes]) -> bytes:
    """EXIF with these (tag, type, value), whatever type the tag should have: what no encoder would write."""
    at = 8 + 2 + 12 * len(entries) + 4
    directory, beyond = b"", b""
    for tag, kind, value in sorted(entries):
        count = len(value) // {2: 1, 3: 2, 5: 8, 7: 1}[kind]
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(beyond))
        beyond += value if len(value) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, count) + inline
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + b"\0" * 4 + beyond


TURNED = (ExifTags.Base.Orientation, 3, b"\6\0")
RESOLUTION = (ExifTags.Base.XResolution, 5, struct.pack("<II", 72, 1))


# How an image is stored, from how it is seen.
STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda seen: seen,
    2: lambda seen: seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda seen: seen.transpose(Image.Transpose.ROTATE_180),
    4: lambda seen: seen.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda seen: seen.transpose(Image.Transpose.TRANSPOSE),
    6: lambda seen: seen.transpose(Image.Transpose.ROTATE_90),
    7: lambda seen: seen.transpose(Image.Transpose.TRANSVERSE),
    8: lambda seen: seen.transpose(Image.Transpose.ROTATE_270),
}
KINDS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95},
    "MPO": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF with LZW": {"compression": "tiff_lzw"},
    "AVIF": {"quality": 95},
}


def corners() -> Image.Image:
    """Each quarter has its own grey, so that every turn can be told."""
    return Image.fromarray(np.kron(np.array([[20, 90], [160, 230]], np.uint8), np.ones((16, 24), np.uint8)))


def with_xmp(image_format: str, orientation: int) -> dict[str, object]:
    """The options that save XMP with this orientation."""
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    if image_format == "TIFF":
        return {"tiffinfo": {700: xmp}}
    if image_format != "PNG":
        return {"xmp": xmp}
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return {"pnginfo": text}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = STORED[orientation](corners().convert("RGB"))
    decoded = decode(encoded(stored, kind.split()[0], exif=exif, **KINDS[kind]), LIMITS)
    assert decoded.exif_orientation == orientation
    assert decoded.rgb.shape == (32, 48, 3)
    assert np.abs(decoded.rgb[..., 0].astype(int) - np.asarray(corners()).astype(int)).mean() < 4


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("exif", [{}, {"exif": exif_block(RESOLUTION)}], ids=["no EXIF", "EXIF without the tag"])
def test_xmp_does_not_turn(image_format: str, exif: dict[str, object]) -> None:
    data = encoded(corners(), image_format, **with_xmp(image_format, 6), **exif)
    assert b"tiff:Orientation" in data
    decoded = decode(data, LIMITS)
    assert decoded.exif_orientation == 1
    assert decoded.rgb.shape == (32, 48, 3)


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    decoded = decode(encoded(corners(), "PNG", exif=b"Exif\0\0no TIFF header"), LIMITS)
    assert (decoded.exif_orientation, decoded.rgb.shape) == (1, (32, 48, 3))


def test_exif_that_imagemagick_wrote_into_a_png_counts() -> None:
    exif = exif_block(TURNED)
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    decoded = decode(encoded(corners(), "PNG", pnginfo=text), LIMITS)
    assert (decoded.exif_orientation, decoded.rgb.shape) == (6, (48, 32, 3))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "other",
    [
        (ExifTags.Base.XResolution, 2, b"seventy-two\0"),
        (ExifTags.Base.DateTime, 5, struct.pack("<II", 2026, 1)),
        (ExifTags.Base.ImageWidth, 2, b"wide, very wide\0"),
        (ExifTags.Base.Software, 3, b"\1\0\2\0"),
    ],
    ids=["resolution in words", "a date as a fraction", "a width in words", "software as numbers"],
)
def test_only_the_orientation_tag_matters(other: tuple[int, int, bytes], image_format: str) -> None:
    stored = gradient().rotate(90, expand=True)
    decoded = decode(encoded(stored, image_format, exif=exif_block(TURNED, other), quality=95), LIMITS)
    assert decoded.exif_orientation == 6
    assert decoded.rgb.shape == (30, 40, 3)
    assert np.abs(decoded.rgb.astype(int) - np.asarray(gradient()).astype(int)).mean() < 4


def test_an_avif_that_pillow_stumbles_over_is_named() -> None:
    """Its plugin writes the EXIF anew while it opens an image with a rotation, and finds a date that is a fraction."""
    exif = exif_block(TURNED, (ExifTags.Base.DateTime, 2, b"2026:11\0"))
    words, fraction = (struct.pack("<HHI", ExifTags.Base.DateTime, *kind) for kind in ((2, 8), (5, 1)))
    data = encoded(gradient(), "AVIF", exif=exif)
    assert words in data
    with pytest.raises(UnreadableImage, match=r"image: the header cannot be read \("):
        decode(data.replace(words, fraction), LIMITS)


def test_a_photo_of_a_phone_is_turned_upright_once() -> None:
    """HEIC has a rotation of its own, which its decoder applies; the EXIF tag that repeats it must not count again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = decode(encoded(gradient().rotate(90, expand=True), "HEIF", exif=exif.tobytes(), quality=95), LIMITS).rgb
    assert upright.shape == (30, 40, 3)
    assert np.abs(upright.astype(int) - np.asarray(gradient()).astype(int)).mean() < 4


def test_what_is_allowed_is_what_can_be_read() -> None:
    """Without the extra "heic" a photo in that format is no image, and the message does not pretend otherwise."""
    photo = encoded(gradient(), "HEIF")
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from service.engine.images import ImageLimits, decode\n"
        "from service.errors import NotAnImage\n"
        "try: decode(sys.stdin.buffer.read(), ImageLimits())\n"
        "except NotAnImage as error: print(error.detail)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=photo, capture_output=True, check=True)
    assert "JPEG, PNG, WebP" in done.stdout.decode()
    assert "HEIC" not in done.stdout.decode()
    with pytest.raises(NotAnImage, match=r"or HEIC$"):
        decode(b"text", LIMITS)


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, LIMITS).rgb[0, 0].tolist() == [255, 0, 0]


def png_announcing(width: int, height: int) -> bytes:
    """A few bytes that claim to be a huge PNG: the bomb of a scanline repeated."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header() -> None:
    said = r"20000 x 20000 = 400000000 pixels; at most 1000000 are allowed \(MAX_PIXELS\): make the image smaller$"
    with pytest.raises(TooLarge, match=said):
        decode(png_announcing(20_000, 20_000), LIMITS)


def float_colour_tiff() -> bytes:
    """A kind that Pillow does not read."""
    whole, data = cv2.imencode(".tiff", np.zeros((4, 4, 3), np.float32))
    assert whole
    return data.tobytes()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotAnImage),
        (b"just text, called photo.jpg", NotAnImage),
        (b"%PDF-1.7 ...", NotAnImage),
        (b"\xff\xd8\xff", UnreadableImage),
        (png_announcing(10, 10).replace(b"IHDR", b"ihdr"), UnreadableImage),
        (float_colour_tiff(), UnreadableImage),
        (cut(encoded(gradient(), "JPEG")), UnreadableImage),
        (cut(encoded(gradient("RGB", (400, 300)), "PNG")), UnreadableImage),
        (cut(encoded(gradient(), "TIFF")), ServiceError),
        (cut(encoded(gradient(), "WEBP")), ServiceError),
        (png_announcing(100, 100), UnreadableImage),
        (png_announcing(0, 5), ServiceError),
    ],
)
def test_what_cannot_be_decoded_is_named(data: bytes, error: type[ServiceError]) -> None:
    with pytest.raises(error, match="image: ") as caught:
        decode(data, LIMITS)
    assert caught.value.status in (413, 415, 422)


FLIPS: list[Callable[[int], int]] = [lambda b: b ^ 0xFF, lambda b: 0, lambda b: (b * 7 + 13) % 256]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs in corrupt metadata
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "HEIF"])
def test_corrupt_bytes_are_an_image_or_a_named_error(image_format: str) -> None:
    original = encoded(gradient(), image_format)
    for at in range(0, len(original), max(1, len(original) // 60)):
        for flip in FLIPS:
            broken = bytearray(original)
            broken[at] = flip(broken[at])
            try:
                assert decode(bytes(broken), LIMITS).rgb.ndim == 3
            except ServiceError as error:
                assert error.status in (413, 415, 422)
