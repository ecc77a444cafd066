"""Exemplar boxes: what on the image a prompt means, and what it does not mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import BadField

BoxXyxy = tuple[float, float, float, float]

VISUAL_TEXT = "visual"
"""The text for SAM 3 when exemplars alone say what is meant (facebookresearch/sam3, `sam3_image_processor.py`)."""

_FARTHEST_PX = 1e9  # more than any image is wide, and far below where floats lose whole pixels
_BOX = "it must be four numbers [x0, y0, x1, y1] in pixels of the upright image with x0 < x1 and y0 < y1, none over 1e9"


@dataclass(frozen=True)
class ExemplarBox:
    """A box xyxy in pixels of the upright image; `label` 1 says "like this", 0 "not like this"."""

    box_xyxy: BoxXyxy
    label: int = 1


def parse_boxes(field: str, value: dict[str, Any], max_boxes: int) -> tuple[ExemplarBox, ...]:
    """Read `boxes` and `box_labels` (all 1 when left out) of the prompt object `value` that stands at `field`.

    Raises BadField, naming box or label, for anything but lists of the same length with at most `max_boxes` each.
    """
    boxes = value.get("boxes", [])
    if not isinstance(boxes, list) or len(boxes) > max_boxes:
        raise BadField(f"{field}.boxes", boxes, f"it must be a list of boxes, at most {max_boxes}")
    labels = value.get("box_labels", [1] * len(boxes))
    if not isinstance(labels, list) or len(labels) != len(boxes):
        raise BadField(f"{field}.box_labels", labels, f"it must be a list, one label a box ({len(boxes)})")
    return tuple(
        ExemplarBox(_box(f"{field}.boxes[{index}]", box), _label(f"{field}.box_labels[{index}]", label))
        for index, (box, label) in enumerate(zip(boxes, labels, strict=True))
    )


def on_image(field: str, boxes: Sequence[ExemplarBox], size_hw: tuple[int, int]) -> list[BoxXyxy]:
    """The boxes of the prompt at `field` as xyxy in [0, 1] of an image of `size_hw`, clipped to it.

    Raises BadField for a box that lies wholly outside.
    """
    return [_clipped(f"{field}.boxes[{index}]", box.box_xyxy, size_hw) for index, box in enumerate(boxes)]


def _box(field: str, value: Any) -> BoxXyxy:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_coordinate, value)):
        raise BadField(field, value, _BOX)
    x0, y0, x1, y1 = (float(edge) + 0.0 for edge in value)  # + 0.0 turns -0.0 into 0.0
    if not (x0 < x1 and y0 < y1):
        raise BadField(field, value, _BOX)
    return x0, y0, x1, y1


def _is_coordinate(value: Any) -> bool:
    """NaN is in no range, and a boolean is no number here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_FARTHEST_PX <= value <= _FARTHEST_PX


def _label(field: str, value: Any) -> int:
    if type(value) is not int or value not in (0, 1):
        raise BadField(field, value, "it must be 1 (like this) or 0 (not like this)")
    return value


def _clipped(field: str, box: BoxXyxy, size_hw: tuple[int, int]) -> BoxXyxy:
    height, width = size_hw
    x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)
    if x0 >= x1 or y0 >= y1:
        raise BadField(field, list(box), f"it lies outside the image, which is {width} pixels wide and {height} high")
    return x0 / width, y0 / height, x1 / width, y1 / height
