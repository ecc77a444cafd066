"""What a small file may make its decoder do beyond the pixels that its header announces: scans and tiles.

Pillow hands both to C that cannot be interrupted, so they are counted before.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import islice

from PIL import ExifTags, TiffImagePlugin

from service.errors import TooLarge, UnreadableImage

# libjpeg goes over the whole image for each scan, even one of 17 bytes, and takes any number of them: a few megabytes
# last for hours. An encoder writes one, or about 10 of a progressive image. libtiff stops a JPEG inside a TIFF at as
# many (TIFFjpeg_progress_monitor in tif_jpeg.c).
MOST_SCANS = 100
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# What jdmarker.c of libjpeg stops at. It passes over stuffed zeros, fill bytes, restarts and what is below SOF0.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

_SHORT, _LONG = 3, 4
_COUNT = {_SHORT: "H", _LONG: "I"}


def refuse_scans(data: bytes) -> None:
    """Raise TooLarge when the JPEG that `data` begins with has more than MOST_SCANS scans."""
    if data.count(_SCAN) <= MOST_SCANS:  # all that most files cost: there are no more scans than such pairs
        return
    if sum(1 for _ in islice(_scans(data), MOST_SCANS + 1)) > MOST_SCANS:
        raise TooLarge(
            f"image: the JPEG data has more than {MOST_SCANS} scans; at most {MOST_SCANS} are allowed: save it anew"
        )


def _scans(data: bytes) -> Iterator[int]:
    """Where each scan begins, as libjpeg finds them.

    The pair of bytes occurs elsewhere too: in a segment, which a thumbnail or profile is, and behind the end, where an
    MPO has its other images and a phone's moving photo megabytes of video.
    """
    at = 2
    while (marker := _MARKER.search(data, at)) and marker[0] != _END:
        if marker[0] == _SCAN:
            yield marker.start()
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        at = marker.end() + max(2, length)


def refuse_tiles(data: bytes, image: TiffImagePlugin.TiffImageFile, max_pixels: int) -> None:
    """Raise TooLarge when a tile of the TIFF has more than `max_pixels`, or all have more than twice as many.

    libtiff decodes tiles whole, however little of them lies in the image. UnreadableImage when a tile's side is no
    SHORT or LONG, which TIFF 6.0 (section 15) has it be.
    """
    # Strips need no such look: libtiff ends them where the image ends.
    width, length = (max(_sides(data, image, tag), default=0) for tag in ("TileWidth", "TileLength"))
    if not width * length:
        return
    across, down = (
        -(-image.tag_v2[ExifTags.Base.ImageWidth] // width),
        -(-image.tag_v2[ExifTags.Base.ImageLength] // length),
    )
    if width * length > max_pixels or across * down * width * length > 2 * max_pixels:
        raise TooLarge(
            f"image: {across * down} TIFF tiles of {width} x {length} = {width * length} pixels; at most {max_pixels} "
            f"are allowed in one and {2 * max_pixels} in all (MAX_PIXELS): make the tiles smaller"
        )


def _sides(data: bytes, image: TiffImagePlugin.TiffImageFile, name: str) -> Iterator[int]:
    """What the first directory says of a tile's side; more than one value only where the file deceives.

    Not Pillow's own reading of the tag: it skips types, and tags behind one that is broken, where libtiff does not.
    """
    order = "<" if image.tag_v2.prefix == b"II" else ">"
    for tag, kind, count, value in _entries(data, image.tag_v2.offset or 0, order):
        if tag == ExifTags.Base[name]:
            if kind not in _COUNT or count != 1:
                raise UnreadableImage(f"image: the TIFF's {name} is not one number of type SHORT or LONG")
            yield struct.unpack_from(order + _COUNT[kind], value)[0]


def _entries(data: bytes, at: int, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    """Tag, type, count and value (or its place) of each entry of the directory at `at`, in a TIFF or BigTIFF."""
    big = 43 in data[2:4]
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    whole = min(count, (len(data) - at) // entry.size)
    yield from entry.iter_unpack(data[at : at + whole * entry.size])
