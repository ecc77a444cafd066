"""Counting finds: masks matched with drawn objects, and the ratios that the tables show."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
Box = tuple[int, int, int, int]

MATCH_IOU = 0.5


@dataclass
class Figures:
    """Counts and sums over image × prompt pairs; ratios are properties, and 0 where there is nothing to divide by."""

    pairs: int = 0
    instances: int = 0
    found: int = 0
    matched: int = 0
    presence_right: int = 0
    absent: int = 0
    absent_answered: int = 0
    mask_iou_sum: float = 0.0
    box_iou_sum: float = 0.0

    def add(self, other: Figures) -> None:
        """Count another pair, or other pairs."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def precision(self) -> float:
        """Share of what was found that matches a drawn object with IoU over 0.5."""
        return self.matched / max(1, self.found)

    @property
    def recall(self) -> float:
        """Share of the drawn objects that were found."""
        return self.matched / max(1, self.instances)

    @property
    def mask_iou(self) -> float:
        """Mean mask IoU of the matches."""
        return self.mask_iou_sum / max(1, self.matched)

    @property
    def box_iou(self) -> float:
        """Mean IoU of the matches' boxes, taken around the masks."""
        return self.box_iou_sum / max(1, self.matched)

    @property
    def presence(self) -> float:
        """Share of pairs where something was found exactly when something was there."""
        return self.presence_right / max(1, self.pairs)

    @property
    def false_answers(self) -> float:
        """Share of the prompts whose concept is absent that were answered with anything."""
        return self.absent_answered / max(1, self.absent)


def score_pair(found: Masks, truth: Masks) -> Figures:
    """Match found masks (N, H, W), best score first, with drawn ones (T, H, W); a match needs IoU over 0.5."""
    figures = Figures(pairs=1, instances=len(truth), found=len(found))
    figures.presence_right = int((len(found) > 0) == (len(truth) > 0))
    if not len(truth):
        figures.absent, figures.absent_answered = 1, int(len(found) > 0)
    for row, column, iou in matches(found, truth):
        figures.matched += 1
        figures.mask_iou_sum += iou
        figures.box_iou_sum += _box_iou(_box(found[row]), _box(truth[column]))
    return figures


def matches(found: Masks, truth: Masks) -> list[tuple[int, int, float]]:
    """(index of a find, index of its drawn object, their IoU) for every match.

    Finds claim their objects in order, best score first. Drawn masks share no pixel, so that none has an IoU over 0.5
    with two of them.
    """
    table = mask_iou(found, truth)
    claimed: dict[int, tuple[int, int, float]] = {}
    for row, column in np.argwhere(table > MATCH_IOU).tolist():
        claimed.setdefault(column, (row, column, float(table[row, column])))
    return list(claimed.values())


def mask_iou(a: Masks, b: Masks) -> NDArray[np.float32]:
    """IoU of every pair: (N, H, W) and (T, H, W) → (N, T); only where both boxes are is anything compared."""
    boxes_a, boxes_b = [_box(mask) for mask in a], [_box(mask) for mask in b]
    areas_a, areas_b = [int(mask.sum()) for mask in a], [int(mask.sum()) for mask in b]
    table = np.zeros((len(a), len(b)), np.float32)
    for row, column in np.ndindex(table.shape):
        x0, y0, x1, y1 = _shared(boxes_a[row], boxes_b[column])
        common = int((a[row, y0:y1, x0:x1] & b[column, y0:y1, x0:x1]).sum())
        table[row, column] = common / max(1, areas_a[row] + areas_b[column] - common)
    return table


def _box(mask: Masks) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _shared(a: Box, b: Box) -> Box:
    x0, y0 = max(a[0], b[0]), max(a[1], b[1])
    return x0, y0, max(x0, min(a[2], b[2])), max(y0, min(a[3], b[3]))


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _box_iou(a: Box, b: Box) -> float:
    common = _area(_shared(a, b))
    return common / max(1, _area(a) + _area(b) - common)
