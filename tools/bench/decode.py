"""From the bytes of an image file to the model's square of pixels."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from service.engine.images import ImageLimits, decode
from service.engine.pixels import resize_to_square
from tools.bench.cell import answer, in_turn, run_cell
from tools.bench.inputs import SIZE_1MP_HW, SIZE_12MP_HW, encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Pairs, Section

_SIDE = 1008
_KINDS = (".jpg", ".png", ".webp")
_METHOD = (
    f"Bytes of a file to RGB, and on to {_SIDE} × {_SIDE}. The baseline is Pillow's `convert('RGB')` and the resizing "
    "of upstream's transform; the service also applies EXIF orientation and limits. The decoders are the same ones."
)


def measure(plan: Plan) -> list[Section]:
    """Rows for 12 MP in each kind, and for a JPEG of 1 MP."""
    large, small = plan.pick((SIZE_12MP_HW, SIZE_1MP_HW), ((300, 400), (60, 80)))
    cases = {f"12 MP {kind[1:]}": (large, kind) for kind in plan.pick(_KINDS, _KINDS[:1])} | {
        "1 MP jpg": (small, ".jpg")
    }
    taken = {name: _pairs(size_hw, kind, plan.pick(5, 1)) for name, (size_hw, kind) in cases.items()}
    rows = [
        pairs.row(f"{name}{part}", key, "ms", scale=1000)
        for name, pairs in taken.items()
        for part, key in (("", "decode_s"), (", then the square", "square_s"))
    ]
    checks = [pairs.same(f"{name}: the same pixels", "pixels") for name, pairs in taken.items()]
    return [Section("Image decoding", _METHOD, tuple(rows), tuple(checks))]


def _pairs(size_hw: tuple[int, int], kind: str, repeats: int) -> Pairs:
    samples = run_cell("decode", size_hw=size_hw, kind=kind, repeats=repeats)
    return Pairs(samples["baseline"], samples["ours"])


def several(size_hw: tuple[int, int], kind: str, repeats: int) -> dict[str, Any]:
    """All repetitions of one case in this process, after one that does not count."""
    data = encoded(photo((size_hw[0], size_hw[1])), kind)
    sides = {"baseline": (baseline_decode, _upstream_square), "ours": (_decode, _square)}
    pairs = in_turn(lambda side: _once(data, *sides[side]), repeats + 1)
    return {"baseline": pairs.baseline[1:], "ours": pairs.ours[1:]}


Pixels = NDArray[np.uint8]


def _once(data: bytes, to_rgb: Callable[[bytes], Pixels], to_square: Callable[[Pixels], Pixels]) -> dict[str, Any]:
    start = time.perf_counter()
    rgb = to_rgb(data)
    decoded = time.perf_counter()
    square = to_square(rgb)
    return {
        "decode_s": decoded - start,
        "square_s": time.perf_counter() - decoded,
        "pixels": fingerprint(rgb, square),
    }


def fingerprint(*images: Pixels) -> str:
    """The SHA-256 of shapes and pixels, in whatever order the arrays lie in memory."""
    found = hashlib.sha256()
    for image in images:
        found.update(str(image.shape).encode() + image.tobytes())
    return found.hexdigest()


def baseline_decode(data: bytes) -> Pixels:
    """As a one-file service does it: no orientation, no limits."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def _upstream_square(rgb: Pixels) -> Pixels:
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    square: Pixels = F.interpolate(pixels, (_SIDE, _SIDE), mode="bilinear", antialias=True)[0].numpy()
    return square


def _decode(data: bytes) -> Pixels:
    return decode(data, ImageLimits()).rgb


def _square(rgb: Pixels) -> Pixels:
    return resize_to_square(rgb, _SIDE)


if __name__ == "__main__":
    answer(several)
