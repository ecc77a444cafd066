"""Small files that would keep a decoder busy for hours or take gigabytes, and those that only look like it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from service.engine.bombs import MOST_SCANS
from service.engine.images import ImageLimits, decode
from service.errors import TooLarge, UnreadableImage

LIMITS = ImageLimits(max_pixels=1_000_000)
SCAN, END = b"\xff\xda", b"\xff\xd9"


def jpeg(image_format: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """A progressive one of 40 x 30 pixels."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert(mode).save(buffer, image_format, progressive=True, **options)
    return buffer.getvalue()


def with_scans(data: bytes, count: int, before: bytes = b"") -> bytes:
    """The last scan of the first image repeated, `before` each time, until there are `count` scans."""
    end = data.index(END)
    last = before + data[data.rindex(SCAN, 0, end) : end]
    return data[:end] + last * (count - data.count(SCAN, 0, end)) + data[end:]


@pytest.mark.parametrize("image_format", ["JPEG", "MPO"])
def test_more_scans_than_an_encoder_writes_are_refused(image_format: str) -> None:
    frames: dict[str, Any] = (
        {"save_all": True, "append_images": [Image.new("RGB", (40, 30))]} if image_format == "MPO" else {}
    )
    data = jpeg(image_format, **frames)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == image_format
    assert decode(with_scans(data, MOST_SCANS), LIMITS).rgb.shape == (30, 40, 3)
    with pytest.raises(TooLarge, match=r"JPEG data has more than 100 scans; at most 100 are allowed"):
        decode(with_scans(data, MOST_SCANS + 1), LIMITS)


@pytest.mark.parametrize(
    "before",
    [b"\xff\xff", b"\0\x12\xff\0\xff\xd3", b"\xff\xfe\0\2", b"\xff\x01", b"\xff\xff\0"],
    ids=["fill bytes", "what no scan has left", "a comment", "a marker of nothing", "a stuffed fill byte"],
)
def test_scans_are_found_where_libjpeg_finds_them(before: bytes) -> None:
    assert decode(with_scans(jpeg(), MOST_SCANS, before), LIMITS).rgb.shape == (30, 40, 3)
    with pytest.raises(TooLarge, match="scans"):
        decode(with_scans(jpeg(), MOST_SCANS + 1, before), LIMITS)


def test_what_only_looks_like_a_scan_is_none() -> None:
    """A thumbnail or profile in a segment, and the video that a phone appends to its moving photo."""
    data = jpeg(comment=SCAN * 300, icc_profile=SCAN * 300) + SCAN * 300
    assert data.count(SCAN) > 900
    assert decode(data, LIMITS).rgb.shape == (30, 40, 3)


SHORT, LONG, LONG8, SLONG8 = 3, 4, 16, 17
CODES = {SHORT: "H", LONG: "I", LONG8: "Q", SLONG8: "q"}
Entry = tuple[int, int, Sequence[int]]
DATA_AT = 16


def tiff(data: bytes, entries: Sequence[Entry], order: str = "<", big: bool = False) -> bytes:
    """One with these (tag, type, values), also such as no encoder would write; `data` is at DATA_AT."""
    wide, room, at = ("Q", 8, DATA_AT + len(data)) if big else ("I", 4, DATA_AT + len(data))
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at))
    directory = struct.pack(order + ("Q" if big else "H"), len(entries))
    beyond_at, beyond = at + len(directory) + len(entries) * (4 + 2 * room) + room, b""
    for tag, kind, values in entries:
        value = struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)
        if len(value) > room:
            value, beyond = struct.pack(order + wide, beyond_at + len(beyond)), beyond + value
        directory += struct.pack(order + "HH" + wide, tag, kind, len(values)) + value.ljust(room, b"\0")
    return head.ljust(DATA_AT, b"\0") + data + directory + bytes(room) + beyond


def tiled(size: tuple[int, int], *sides: Entry, tile: tuple[int, int] | None = None, **layout: Any) -> bytes:
    """A grey TIFF whose tiles share their bytes. `sides`: entries of tags 322 and 323, else those of `tile`."""
    width, length = tile or (size[0], size[1])
    count = -(-size[0] // width) * -(-size[1] // length)
    data = zlib.compress(b"\x5a" * width * length, 9)
    data += bytes(len(data) % 2)
    entries: list[Entry] = [(tag, LONG, [value]) for tag, value in ((256, size[0]), (257, size[1]))]
    entries += [(tag, SHORT, [value]) for tag, value in ((258, 8), (259, 8), (262, 1), (277, 1))]
    entries += sides or [(322, LONG, [width]), (323, LONG, [length])]
    return tiff(data, [*entries, (324, LONG, [DATA_AT] * count), (325, LONG, [len(data)] * count)], **layout)


LAYOUTS: dict[str, dict[str, Any]] = {
    "TIFF": {},
    "TIFF from the other end": {"order": ">"},
    "BigTIFF": {"big": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiles_are_decoded_in_every_layout(layout: str) -> None:
    """Also where they reach beyond the image, as those of a small or thin image do."""
    for size in ((100, 60), (5, 5), (3, 4000)):
        rgb = decode(tiled(size, tile=(64, 64), **LAYOUTS[layout]), LIMITS).rgb
        assert rgb.shape == (size[1], size[0], 3)
        assert (rgb == 0x5A).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tile_larger_than_an_image_may_be_is_refused(layout: str) -> None:
    said = r"1 TIFF tiles of 2048 x 2048 = 4194304 pixels; at most 1000000 are allowed in one"
    with pytest.raises(TooLarge, match=said):
        decode(tiled((16, 16), tile=(2048, 2048), **LAYOUTS[layout]), LIMITS)


def test_tiles_that_hardly_touch_the_image_are_refused() -> None:
    """Their bytes are in the file once, and would be decoded twenty times."""
    with pytest.raises(TooLarge, match=r"20 TIFF tiles of 62496 x 16 = 999936 pixels; .* and 2000000 in all"):
        decode(tiled((16, 320), tile=(62496, 16)), LIMITS)


HIDDEN = {
    "a type that Pillow skips": ([(322, SLONG8, [2048]), (322, LONG, [16])], UnreadableImage),
    "two values": ([(322, SHORT, [2048, 16])], UnreadableImage),
    "twice": ([(322, LONG, [2048]), (322, LONG, [16])], TooLarge),
    "twice, the other way round": ([(322, LONG, [16]), (322, LONG, [2048])], TooLarge),
    "behind a tag that cannot be read": ([(320, LONG8, [0] * 9), (322, LONG, [2048])], TooLarge),
}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it cannot read
@pytest.mark.parametrize("way", HIDDEN)
def test_a_tile_cannot_be_hidden(way: str) -> None:
    widths, error = HIDDEN[way]
    data = tiled((16, 16), *widths, (323, LONG, [2048]), tile=(2048, 2048))
    if "behind" in way:  # its nine values lie far beyond the file
        at = data.index(struct.pack("<HHI", 320, LONG8, 9)) + 8
        data = data[:at] + struct.pack("<I", 1 << 30) + data[at + 4 :]
    with pytest.raises(error, match=r"image: .*(tiles of 2048|TileWidth is not one number)"):
        decode(data, LIMITS)


def striped(data: bytes, compression: int, rows: int) -> bytes:
    """A grey TIFF of 40 x 30 pixels in one strip that is said to have so many rows."""
    shorts = ((256, 40), (257, 30), (258, 8), (259, compression), (262, 1))
    entries: list[Entry] = [(tag, SHORT, [value]) for tag, value in shorts]
    data += bytes(len(data) % 2)
    entries += [(273, LONG, [DATA_AT]), (277, SHORT, [1]), (278, LONG, [rows]), (279, LONG, [len(data)])]
    return tiff(data, entries)


def test_a_strip_ends_with_the_image() -> None:
    """Whatever number of rows it is said to have, as many encoders write 2^32 - 1."""
    for rows in (30, 1 << 24, (1 << 32) - 1):
        assert (decode(striped(zlib.compress(b"\x5a" * 1200), 8, rows), LIMITS).rgb == 0x5A).all()


def test_a_jpeg_inside_a_tiff_has_no_more_scans_either() -> None:
    """libtiff sees to it, and counts from 0."""
    data = jpeg(mode="L")
    assert decode(striped(with_scans(data, MOST_SCANS - 1), 7, 30), LIMITS).rgb.shape == (30, 40, 3)
    with pytest.raises(UnreadableImage, match="the TIFF data cannot be decoded"):
        decode(striped(with_scans(data, MOST_SCANS + 1), 7, 30), LIMITS)
