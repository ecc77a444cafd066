"""What a caller has of an image → the field of the form that carries it."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = tuple[str, Any]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters or more: C:// is a drive
_PLAIN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_WIDE_MODES = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")  # those that the service scales to 8 bits


def image_field(image: Any) -> Field:
    """The field for a path, bytes, a file that is open, a gs:// URI, an array or a PIL image.

    TypeError for anything else and for what no file can carry, ValueError for a URL.
    """
    if isinstance(image, str) and image.startswith("gs://"):
        return "image_uri", image
    return "image", ("image", _image_bytes(image), "application/octet-stream")


def _image_bytes(image: Any) -> bytes:
    if isinstance(image, str) and _SCHEME.match(image):
        raise ValueError(f"image: {image!r}: URLs are not fetched; give a path, bytes or a gs:// URI")
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    content = image.read() if hasattr(image, "read") else image
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    if content is not image:
        raise TypeError(f"image: the file gives {type(content).__name__}; open it in binary mode")
    return _encoded(image)


def _encoded(image: Any) -> bytes:
    """Encode an array or a PIL image without loss. TypeError for anything else, and for arrays that are no picture."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise ImportError("arrays need Pillow: pip install pillow") from error
    if isinstance(image, np.ndarray):
        image = Pillow.fromarray(_picture(image))
    if not isinstance(image, Pillow.Image):
        kind = type(image).__name__
        raise TypeError(f"image: {kind} is not a path, bytes, an open file, a gs:// URI, an array or a PIL image")
    image.load()  # turns a TIFF, and only then has it the size and the mode that it is to be sent in
    if image.mode in _WIDE_MODES and not (image.format == "PNG" and image.mode == "I;16"):
        values = np.asarray(image)
        native = Pillow.fromarray(values.astype(values.dtype.newbyteorder("="), copy=False))
        return _file(native, "TIFF", compression="tiff_deflate")
    return _file(_plain(image), "PNG", exif=b"", compress_level=1)


def _plain(image: Any) -> Any:
    """The image in a mode that a PNG has, as is one of 16 bits that comes from a PNG."""
    if image.mode in (*_PLAIN_MODES, "I;16"):
        return image
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise TypeError(f"image: a PIL image of mode {image.mode} cannot be sent; convert it to RGB") from error


def _file(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise TypeError(f"image: an array {array.shape} of {array.dtype}; it must be (H, W) or (H, W, 3) of uint8")
    return array
