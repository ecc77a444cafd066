"""Non-maximum suppression: of boxes that overlap, the one with the highest score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_iou(box: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of one xyxy box (4,) with each of (N, 4); 0 where the union has no area.

    The same in pixels and in [0, 1] of an image, as a scaling of an axis cancels out.
    """
    one, others = box.astype(np.float64), boxes.astype(np.float64)
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    inside = np.prod(np.clip(sides, 0, None), axis=1)
    union = np.prod(one[2:] - one[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - inside
    overlap: NDArray[np.float64] = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return overlap


def kept(boxes: NDArray[np.floating], scores: NDArray[np.floating], iou: float) -> NDArray[np.bool_]:
    """Which boxes (N, 4), xyxy, stay when each is dropped that overlaps a better one that stays by more than `iou`.

    Better is the higher score, of equal scores the earlier one. Greedy, as torchvision.ops.nms and the COCO evaluations
    of the field do it.
    """
    stays = np.zeros(len(scores), np.bool_)
    waiting = np.argsort(-scores, kind="stable")
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        stays[best] = True
        waiting = waiting[box_iou(boxes[best], boxes[waiting]) <= iou]
    return stays
