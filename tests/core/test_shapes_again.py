"""What an answer says of a mask gives the mask again, in other people's code: pycocotools and OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.ndimage import binary_fill_holes

from service.core.contours import hole_rings, outer_rings
from service.core.masks import Mask, crop_masks, paste, rle

FRAME = (90, 130)
logits = arrays(
    np.float32, st.tuples(st.just(2), st.integers(2, 9), st.integers(2, 9)), elements=st.floats(-4, 4, width=32)
)


def drawn_again(mask: Mask, *, holes: bool) -> NDArray[np.bool_]:
    """The rings of the answer filled: by the even-odd rule, so that a hole within a ring stays empty."""
    frame = np.zeros(mask.size_hw, np.uint8)
    found = outer_rings(mask) + (hole_rings(mask) if holes else [])
    cv2.fillPoly(frame, found, 1)
    return frame.astype(bool)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decode
@given(logits)
def test_every_mask_comes_back(maps: Any) -> None:
    for mask in crop_masks(maps, FRAME):
        frame = paste(mask)
        np.testing.assert_array_equal(coco.decode(rle(mask)), frame)
        if frame.any():
            # Outer rings know no holes: an instance with holes comes back filled.
            assert iou(drawn_again(mask, holes=False), binary_fill_holes(frame)) >= 0.99
            assert iou(drawn_again(mask, holes=True), frame) >= 0.99


def test_a_ring_around_a_ring_comes_back() -> None:
    """An instance with an island in its hole, and a hole in that."""
    frame = np.zeros(FRAME, np.uint8)
    for radius, value in ((40, 1), (30, 0), (20, 1), (10, 0)):
        cv2.circle(frame, (60, 45), radius, value, -1)
    mask = Mask.of(frame, 0, 0, FRAME)
    assert iou(drawn_again(mask, holes=True), frame.astype(bool)) >= 0.99
    assert iou(drawn_again(mask, holes=False), frame.astype(bool)) < 0.7
