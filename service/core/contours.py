"""Masks as polygons: outer rings and holes, with no more vertices than asked for."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from service.core.masks import Mask, rings

Ring = NDArray[np.int32]
"""(n, 2) as [x, y] pixels of the image, closed."""


def outer_rings(mask: Mask, tolerance_px: float = 0.0) -> list[Ring]:
    """The `rings` of a mask, simplified."""
    found = rings(mask)
    return [simplified(ring, tolerance_px) for ring in found] if tolerance_px > 0 else found


def hole_rings(mask: Mask, tolerance_px: float = 0.0) -> list[Ring]:
    """Every ring within the `outer_rings`, as [x, y] pixels of the image, simplified: holes, and islands in holes.

    As OpenCV traces them, the ring of a hole runs through those pixels of the mask that surround it. Filled together
    with the outer rings by the even-odd rule (`cv2.fillPoly`) they give the mask.
    """
    contours, hierarchy = cv2.findContours(
        mask.pixels, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.left, mask.top)
    )
    if not contours:
        return []
    parents = hierarchy[0, :, 3]
    return [
        simplified(_points(ring), tolerance_px) for ring, parent in zip(contours, parents, strict=True) if parent >= 0
    ]


def simplified(ring: Ring, tolerance_px: float) -> Ring:
    """Leave out vertices of a closed ring that lie within `tolerance_px` of what stays (Douglas & Peucker, 1973).

    No vertex is new. As OpenCV does it, a last pass takes out those that are almost on a line, so that some of what is
    left out may lie up to 1.7 times as far.
    """
    if tolerance_px <= 0:
        return ring
    return _points(cv2.approxPolyDP(ring, tolerance_px, closed=True))


def _points(contour: object) -> Ring:
    return np.asarray(contour, np.int32).reshape(-1, 2)
