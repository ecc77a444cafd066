"""A picture of a result: tinted masks, outlines, boxes and labels over the photo."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.core.masks import Mask
from service.core.results import Instance, PromptResult

Colour = tuple[int, int, int]

# Distinct in hue and lightness, also for red-green blindness (after Okabe & Ito, 2008), brightened for photos.
PALETTE: tuple[Colour, ...] = (
    (0, 158, 235),
    (240, 120, 20),
    (0, 190, 130),
    (225, 70, 170),
    (245, 205, 40),
    (140, 95, 235),
    (90, 210, 240),
    (230, 60, 60),
)
_TINT = 0.45


def draw_overlay(rgb: NDArray[np.uint8], results: Sequence[PromptResult]) -> NDArray[np.uint8]:
    """Return a copy of `rgb` (H, W, 3) with every instance drawn in its prompt's colour, labels on top."""
    picture = rgb.copy()
    coloured = [
        (result.label, PALETTE[i % len(PALETTE)], instance)
        for i, result in enumerate(results)
        for instance in reversed(result.instances)
    ]
    line_px = max(1, round(max(rgb.shape[:2]) / 500))
    for _label, colour, instance in coloured:
        _tint(picture, instance.mask, colour)
        _outline(picture, instance.mask, colour, line_px)
    canvas = Image.fromarray(picture)
    for label, colour, instance in coloured:
        _draw_box(ImageDraw.Draw(canvas), f"{label} {instance.score:.2f}", instance, colour, line_px)
    return np.asarray(canvas)


def _tint(picture: NDArray[np.uint8], mask: Mask, colour: Colour) -> None:
    height, width = mask.crop_hw
    window = picture[mask.top : mask.top + height, mask.left : mask.left + width]
    inside = mask.pixels.astype(bool)
    window[inside] = (window[inside] * (1 - _TINT) + np.array(colour) * _TINT).astype(np.uint8)


def _outline(picture: NDArray[np.uint8], mask: Mask, colour: Colour, line_px: int) -> None:
    contours, _ = cv2.findContours(
        mask.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.left, mask.top)
    )
    cv2.drawContours(picture, contours, -1, colour, line_px + 1, cv2.LINE_AA)


def _draw_box(draw: ImageDraw.ImageDraw, text: str, instance: Instance, colour: Colour, line_px: int) -> None:
    x0, y0, x1, y1 = instance.box_xyxy
    draw.rectangle((x0, y0, x1, y1), outline=colour, width=line_px)
    font = ImageFont.load_default(size=max(10, 9 * line_px + 5))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = 2 * line_px
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    canvas_width = float(draw.im.size[0])
    x = min(max(0.0, x0), max(0.0, canvas_width - width))
    y = y0 - height if y0 >= height else y0
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, fill=_readable_on(colour), font=font)


def _readable_on(colour: Colour) -> str:
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return "black" if luminance > 140 else "white"
