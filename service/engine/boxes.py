"""Exemplar boxes of several prompts as arrays, for whichever engine reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.engine.base import Exemplar


def padded_boxes(
    exemplars: Sequence[Sequence[Exemplar]],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes (B, n, 4) cxcywh, labels (B, n), 1 or 0, and which of them are no padding (B, n)."""
    shape = len(exemplars), max(map(len, exemplars))
    boxes, labels, mask = np.zeros((*shape, 4)), np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for row, group in enumerate(exemplars):
        x0, y0, x1, y1 = np.array([exemplar.box_xyxy for exemplar in group]).reshape(-1, 4).T
        boxes[row, : len(group)] = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)
        labels[row, : len(group)] = [exemplar.positive for exemplar in group]
        mask[row, : len(group)] = True
    return boxes, labels, mask
