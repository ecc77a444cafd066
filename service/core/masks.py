"""Low-resolution mask logits → masks of the full size, kept as run lengths → COCO RLE and contour rings."""

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
class Mask:
    """One mask of an image of `size_hw`, as run lengths: kilobytes, where its pixels would be megabytes.

    counts: uint32 lengths of the runs of 0 and 1 in turn, down the columns of the whole frame, beginning with 0
    (cocoapi, maskApi.h). `top`, `left` and `crop_hw`: the part of the frame outside which all is 0; (0, 0) when empty.
    """

    counts: NDArray[np.uint32]
    top: int
    left: int
    crop_hw: tuple[int, int]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], top: int, left: int, size_hw: tuple[int, int]) -> Mask:
        """The mask whose `pixels` (h, w) of 0 and 1 have their corner at row `top`, column `left`."""
        height, width = pixels.shape
        return cls(_counts(pixels, top, left, size_hw), top, left, (height, width), size_hw)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The crop (h, w) of 0 and 1, made anew at each call."""
        frame_height, (height, width) = self.size_hw[0], self.crop_hw
        # Whole columns first: a run may go on from the bottom of one at the top of the next.
        first, end = self.left * frame_height, (self.left + width) * frame_height
        edges = np.clip(np.cumsum(self.counts, dtype=np.int64), first, end)
        bits = (np.arange(len(self.counts)) % 2).astype(np.uint8)
        columns = np.repeat(bits, np.diff(edges, prepend=first)).reshape(width, frame_height)
        return np.ascontiguousarray(columns[:, self.top : self.top + height].T)


def crop_masks(logits: NDArray[np.float32], size_hw: tuple[int, int], mask_threshold: float = 0.5) -> list[Mask]:
    """Resize each (h, w) map of `logits` (N, h, w) to `size_hw` and keep what is more probable than the threshold.

    Equals, bit for bit, the full-frame bilinear `torch.nn.functional.interpolate` of (N, 1, h, w) >
    logit(mask_threshold) on a CPU with AVX2, in memory that grows with the largest object and not with N × H × W.
    As channels, (1, N, h, w), torch rounds some N otherwise, by the last bit. `logits` must be finite.
    """
    grid = make_grid(logits.shape[1:], size_hw)
    level = math.log(mask_threshold / (1 - mask_threshold))
    return [_mask(one, grid, level) for one in logits]


def _mask(logits: NDArray[np.float32], grid: Grid, level: float) -> Mask:
    part = exceeding(logits, grid, level)
    if part is None or not part[0].any():
        return Mask.of(np.zeros((0, 0), np.uint8), 0, 0, grid.size_hw)
    pixels, top, left = part
    return Mask.of(pixels.view(np.uint8), top, left, grid.size_hw)


def paste(mask: Mask) -> NDArray[np.bool_]:
    """The full frame (H, W) of one mask."""
    frame = np.zeros(mask.size_hw, dtype=np.bool_)
    height, width = mask.crop_hw
    frame[mask.top : mask.top + height, mask.left : mask.left + width] = mask.pixels
    return frame


def rings(mask: Mask) -> list[NDArray[np.int32]]:
    """Outer rings (n, 2) as [x, y] pixels of the image: `cv2.findContours(RETR_EXTERNAL, CHAIN_APPROX_SIMPLE)`."""
    found, _ = cv2.findContours(mask.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.left, mask.top))
    return [ring.reshape(-1, 2).astype(np.int32) for ring in found]


def rle(mask: Mask) -> dict[str, Any]:
    """COCO compressed RLE: `{"size": [H, W], "counts": "…"}`, equal to `pycocotools.mask.encode` of the full frame."""
    height, width = mask.size_hw
    plain = {"size": [height, width], "counts": mask.counts.tolist()}
    encoded = pycocotools.mask.frPyObjects(plain, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _counts(pixels: NDArray[np.uint8], top: int, left: int, size_hw: tuple[int, int]) -> NDArray[np.uint32]:
    """The run lengths of the whole frame."""
    frame_height, frame_width = size_hw
    height, width = pixels.shape
    # One 0 before each column and one at the end: every run begins and ends with a step.
    padded = np.zeros(width * (height + 1) + 1, np.uint8)
    padded[:-1].reshape(width, height + 1)[:, 1:] = pixels.T
    column, row = np.divmod(np.flatnonzero(padded[1:] != padded[:-1]), height + 1)
    starts, ends = ((column + left) * frame_height + row + top).reshape(-1, 2).T
    # A run down to the last row goes on at the top of the next column.
    apart = starts[1:] != ends[:-1]
    edges = np.column_stack((starts[np.r_[True, apart]], ends[np.r_[apart, True]])).ravel() if starts.size else starts
    runs = np.diff(edges, prepend=0, append=frame_height * frame_width)
    return (runs if runs[-1] else runs[:-1]).astype(np.uint32)
