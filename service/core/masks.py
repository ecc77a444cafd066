"""Low-resolution mask logits → crops of the full-size masks → COCO RLE and contour rings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pycocotools.mask
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """One mask of an image of `size_hw`: `pixels` (h, w) uint8 of 0 and 1 with its corner at row `top`, column `left`.

    Everything outside the crop is 0; an empty mask has pixels of shape (0, 0).
    """

    pixels: NDArray[np.uint8]
    top: int
    left: int
    size_hw: tuple[int, int]


def paste(mask: MaskCrop) -> NDArray[np.bool_]:
    """The full frame (H, W) of one mask."""
    frame = np.zeros(mask.size_hw, dtype=np.bool_)
    height, width = mask.pixels.shape
    frame[mask.top : mask.top + height, mask.left : mask.left + width] = mask.pixels
    return frame


def rings(mask: MaskCrop) -> list[list[list[int]]]:
    """Outer rings as [x, y] pixels of the image: `cv2.findContours(RETR_EXTERNAL, CHAIN_APPROX_SIMPLE)`."""
    found, _ = cv2.findContours(
        mask.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.left, mask.top)
    )
    return [ring.reshape(-1, 2).tolist() for ring in found]


def rle(mask: MaskCrop) -> dict[str, Any]:
    """COCO compressed RLE: `{"size": [H, W], "counts": "…"}`, equal to `pycocotools.mask.encode` of the full frame."""
    height, width = mask.size_hw
    encoded = pycocotools.mask.frPyObjects({"size": [height, width], "counts": _counts(mask)}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _counts(mask: MaskCrop) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, down the columns, beginning with 0 (cocoapi, maskApi.h)."""
    height, width = mask.size_hw
    columns = np.zeros((mask.pixels.shape[1], mask.pixels.shape[0] + 2), np.int8)
    columns[:, 1:-1] = mask.pixels.T
    steps = np.diff(columns, axis=1)
    column, row = np.nonzero(steps == 1)
    starts = (column + mask.left) * height + row + mask.top
    column, row = np.nonzero(steps == -1)
    ends = (column + mask.left) * height + row + mask.top
    if not starts.size:
        return [height * width]
    apart = starts[1:] != ends[:-1]  # a run that reaches the bottom goes on at the top of the next column
    edges = np.empty((np.count_nonzero(apart) + 1, 2), np.int64)
    edges[:, 0] = starts[np.r_[True, apart]]
    edges[:, 1] = ends[np.r_[apart, True]]
    runs: list[int] = np.diff(edges.ravel(), prepend=0).tolist()
    rest = height * width - int(edges[-1, 1])
    return [*runs, rest] if rest else runs


def crop_masks(
    logits: NDArray[np.float32], size_hw: tuple[int, int], mask_threshold: float = 0.5
) -> list[MaskCrop]:
    """temporary"""
    h, w = logits.shape[1:]
    thr = np.float32(math.log(mask_threshold / (1 - mask_threshold)))
    ys, xs = _axis(h, size_hw[0]), _axis(w, size_hw[1])
    out = []
    for L in logits:
        pos = L > thr
        r = np.flatnonzero(pos.any(1))
        if not r.size:
            out.append(MaskCrop(np.zeros((0, 0), np.uint8), 0, 0, size_hw)); continue
        c = np.flatnonzero(pos.any(0))
        top, bot = np.searchsorted(ys[1], r[0], "left"), np.searchsorted(ys[0], r[-1], "right")
        lef, rig = np.searchsorted(xs[1], c[0], "left"), np.searchsorted(xs[0], c[-1], "right")
        if top >= bot or lef >= rig:
            out.append(MaskCrop(np.zeros((0, 0), np.uint8), 0, 0, size_hw)); continue
        i0, i1, b0, b1 = (a[lef:rig] for a in xs)
        Hh = L[:, i0] * b0 + L[:, i1] * b1
        j0, j1, a0, a1 = (a[top:bot] for a in ys)
        m = Hh[j0] * a0[:, None] + Hh[j1] * a1[:, None] > thr
        out.append(MaskCrop(m.view(np.uint8), int(top), int(lef), size_hw))
    return out


def _axis(n_in, n_out):
    s = np.float32(np.float32(n_in) / np.float32(n_out))
    p = np.maximum(s * (np.arange(n_out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    i0 = np.minimum(p.astype(np.int64), n_in - 1)
    i1 = np.minimum(i0 + 1, n_in - 1)
    l1 = p - i0.astype(np.float32)
    return i0, i1, np.float32(1) - l1, l1
