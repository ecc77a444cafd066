"""Low-resolution mask logits → crops of the full-size masks → COCO RLE and contour rings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pycocotools.mask
from numpy.typing import NDArray

from service.core.upsample import Grid, exceeding, make_grid


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """One mask of an image of `size_hw`: `pixels` (h, w) uint8 of 0 and 1 with its corner at row `top`, column `left`.

    Everything outside the crop is 0; an empty mask has pixels of shape (0, 0).
    """

    pixels: NDArray[np.uint8]
    top: int
    left: int
    size_hw: tuple[int, int]


def crop_masks(logits: NDArray[np.float32], size_hw: tuple[int, int], mask_threshold: float = 0.5) -> list[MaskCrop]:
    """Resize each (h, w) map of `logits` (N, h, w) to `size_hw` and keep what is more probable than the threshold.

    Equals, bit for bit, the full-frame bilinear `torch.nn.functional.interpolate` of (N, 1, h, w) >
    logit(mask_threshold) on a CPU with AVX2, in memory that grows with the object and not with N × H × W.
    As channels, (1, N, h, w), torch rounds some N otherwise, by the last bit. `logits` must be finite.
    """
    grid = make_grid(logits.shape[1:], size_hw)
    level = math.log(mask_threshold / (1 - mask_threshold))
    return [_crop(one, grid, level) for one in logits]


def _crop(logits: NDArray[np.float32], grid: Grid, level: float) -> MaskCrop:
    part = exceeding(logits, grid, level)
    if part is None or not part[0].any():
        return MaskCrop(np.zeros((0, 0), np.uint8), 0, 0, grid.size_hw)
    pixels, top, left = part
    return MaskCrop(pixels.view(np.uint8), top, left, grid.size_hw)


def paste(mask: MaskCrop) -> NDArray[np.bool_]:
    """The full frame (H, W) of one mask."""
    frame = np.zeros(mask.size_hw, dtype=np.bool_)
    height, width = mask.pixels.shape
    frame[mask.top : mask.top + height, mask.left : mask.left + width] = mask.pixels
    return frame


def rings(mask: MaskCrop) -> list[list[list[int]]]:
    """Outer rings as [x, y] pixels of the image: `cv2.findContours(RETR_EXTERNAL, CHAIN_APPROX_SIMPLE)`."""
    found, _ = cv2.findContours(mask.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.left, mask.top))
    return [ring.reshape(-1, 2).astype(np.int32).tolist() for ring in found]


def rle(mask: MaskCrop) -> dict[str, Any]:
    """COCO compressed RLE: `{"size": [H, W], "counts": "…"}`, equal to `pycocotools.mask.encode` of the full frame."""
    height, width = mask.size_hw
    encoded = pycocotools.mask.frPyObjects({"size": [height, width], "counts": _counts(mask)}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _counts(mask: MaskCrop) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, down the columns, beginning with 0 (cocoapi, maskApi.h)."""
    frame_height, frame_width = mask.size_hw
    height, width = mask.pixels.shape
    # One 0 before each column and one at the end: every run begins and ends with a step.
    padded = np.zeros(width * (height + 1) + 1, np.uint8)
    padded[:-1].reshape(width, height + 1)[:, 1:] = mask.pixels.T
    column, row = np.divmod(np.flatnonzero(padded[1:] != padded[:-1]), height + 1)
    starts, ends = ((column + mask.left) * frame_height + row + mask.top).reshape(-1, 2).T
    if not starts.size:
        return [frame_height * frame_width]
    apart = starts[1:] != ends[:-1]  # a run down to the last row goes on at the top of the next column
    edges = np.column_stack((starts[np.r_[True, apart]], ends[np.r_[apart, True]])).ravel()
    runs: list[int] = np.diff(edges, prepend=0).tolist()
    rest = frame_height * frame_width - int(edges[-1])
    return [*runs, rest] if rest else runs
