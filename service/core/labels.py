"""Where the labels of a picture go: within it, and over no instance that they would hide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Rectangle = tuple[int, int, int, int]
Box = tuple[float, float, float, float]

# Of a box labels together cover little, so that a small instance stays to be seen; where they are crowded, more.
_COVERED = (0.15, 0.5)


class LabelPlan:
    """Finds places for labels, one after the other, in a picture of `size_hw` with instances in these boxes (xyxy)."""

    def __init__(self, size_hw: tuple[int, int], boxes_xyxy: Sequence[Box]) -> None:
        self._size_hw = size_hw
        self._boxes = np.array(boxes_xyxy, np.float64).reshape(-1, 4)
        self._areas = _area(self._boxes)
        self._covered = np.zeros(len(self._boxes))

    def place(self, box_xyxy: Box, label_hw: tuple[int, int]) -> Rectangle | None:
        """Left, top, right and bottom of a label: above the box, else in it, below or beside it; None for nowhere."""
        places = [(x, y, x + label_hw[1], y + label_hw[0]) for x, y in _corners(box_xyxy, label_hw, self._size_hw)]
        inside = [(place, self._covered_by(place)) for place in places if self._contains(place)]
        for share in _COVERED:
            for place, covered in inside:
                if (self._covered + covered <= share * self._areas).all():
                    self._covered += covered
                    return place
        return None

    def _contains(self, place: Rectangle) -> bool:
        height, width = self._size_hw
        return min(place[:2]) >= 0 and place[2] <= width and place[3] <= height

    def _covered_by(self, place: Rectangle) -> NDArray[np.float64]:
        low, high = np.maximum(self._boxes[:, :2], place[:2]), np.minimum(self._boxes[:, 2:], place[2:])
        return _area(np.hstack((low, high)))


def _corners(box_xyxy: Box, label_hw: tuple[int, int], size_hw: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Left and top of the places to try, the best first."""
    x0, y0, x1, y1 = (round(edge) for edge in box_xyxy)
    height, width = label_hw
    x, y = (max(0, min(wanted, most)) for wanted, most in ((x0, size_hw[1] - width), (y0, size_hw[0] - height)))
    yield x, y0 - height
    yield x, y
    yield x, y1 + 1
    yield x1 + 1, y
    yield x0 - width, y


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)
