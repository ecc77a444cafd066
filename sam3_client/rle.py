"""COCO's compressed run lengths (cocoapi, common/maskApi.c: rleFrString)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask (H, W) of `{"size": [H, W], "counts": "…"}`, with pycocotools where it is installed."""
    try:
        import pycocotools.mask
    except ImportError:
        return decode_plainly(rle)
    return np.asarray(pycocotools.mask.decode(rle)).view(np.bool_)


def decode_plainly(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The same without pycocotools. Raises ValueError when the runs do not fill the frame."""
    height, width = rle["size"]
    runs = counts(rle["counts"])
    if sum(runs) != height * width:
        raise ValueError(f"runs of {sum(runs)} pixels in a mask of {height} × {width}")
    bits = np.arange(len(runs)) % 2 == 1
    return np.repeat(bits, runs).reshape(width, height).T


def counts(text: str) -> list[int]:
    """The lengths of the runs of 0 and 1 in turn, down the columns, beginning with 0.

    Five bits a character, the sixth says that more follow, the fifth of the last is the sign; from the fourth run on
    the difference to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in text.encode("ascii"):
        bits = byte - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs
