"""Non-maximum suppression: of boxes that overlap, the one with the highest score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_iou(box: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of one xyxy box (4,) with each of (N, 4); 0 where the union has no area.

    The same in pixels and in [0, 1] of an image, as a scaling of an axis cancels out.
    """
    x0, y0, x1, y1 = boxes.T.astype(np.float64, copy=False)
    left, top, right, bottom = (float(edge) for edge in box)
    width = np.clip(np.minimum(right, x1) - np.maximum(left, x0), 0, None)
    inside = width * np.clip(np.minimum(bottom, y1) - np.maximum(top, y0), 0, None)
    union = (right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - inside
    overlap: NDArray[np.float64] = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return overlap


def kept(boxes: NDArray[np.floating], scores: NDArray[np.floating], iou: float) -> NDArray[np.bool_]:
    """Which boxes (N, 4), xyxy, stay when each is dropped that overlaps a better one that stays by more than `iou`.

    Better is the higher score, of equal scores the earlier one. Greedy, as torchvision.ops.nms and the COCO evaluations
    of the field do it.
    """
    stays = np.zeros(len(scores), np.bool_)
    order = np.argsort(-scores, kind="stable")
    edges = np.ascontiguousarray(boxes[order].T, np.float64)  # columns are read as a whole, ten thousand times
    while order.size:
        stays[order[0]] = True
        apart = box_iou(edges[:, 0], edges[:, 1:].T) <= iou
        order, edges = order[1:], edges[:, 1:]
        if not apart.all():
            order, edges = order[apart], edges[:, apart]
    return stays
