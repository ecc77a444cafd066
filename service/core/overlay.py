"""A picture of a result: tinted masks, outlines, boxes and labels over the photo."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.core.labels import LabelPlan
from service.core.masks import Mask
from service.core.results import Instance, PromptResult

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

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
_LEAST_FONT_PX = 10
_MOST_LETTERS = 80
_LEAST_HEIGHT_IN_LABELS = 4


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
    draw = ImageDraw.Draw(canvas)
    for _label, colour, instance in coloured:
        draw.rectangle(instance.box_xyxy, outline=colour, width=line_px)
    plan = LabelPlan(rgb.shape[:2], [instance.box_xyxy for _label, _colour, instance in coloured])
    # The best scores choose their places first.
    for label, colour, instance in sorted(coloured, key=lambda one: -one[2].score):
        _draw_label(draw, plan, label, instance, colour, line_px)
    return np.asarray(canvas)


def _tint(picture: NDArray[np.uint8], mask: Mask, colour: Colour) -> None:
    height, width = mask.crop_hw
    window = picture[mask.top : mask.top + height, mask.left : mask.left + width]
    inside = mask.pixels.astype(bool)
    for channel, value in enumerate(colour):
        tinted = (np.arange(256) * (1 - _TINT) + value * _TINT).astype(np.uint8)
        np.copyto(window[..., channel], tinted[window[..., channel]], where=inside)


def _outline(picture: NDArray[np.uint8], mask: Mask, colour: Colour, line_px: int) -> None:
    contours, _ = cv2.findContours(
        mask.pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(mask.left, mask.top)
    )
    cv2.drawContours(picture, contours, -1, colour, line_px + 1, cv2.LINE_AA)


def _draw_label(
    draw: ImageDraw.ImageDraw, plan: LabelPlan, label: str, instance: Instance, colour: Colour, line_px: int
) -> None:
    font = ImageFont.load_default(size=max(_LEAST_FONT_PX, 9 * line_px + 5))
    pad = 2 * line_px
    text = _fitting(draw, label, f"{instance.score:.2f}", font, pad)
    if not text:
        return
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    size_hw = math.ceil(bottom - top) + 2 * pad, math.ceil(right - left) + 2 * pad
    place = plan.place(instance.box_xyxy, size_hw)
    if place is None:
        return
    x0, y0, x1, y1 = place
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    draw.text((x0 + pad - left, y0 + pad - top), text, fill=_readable_on(colour), font=font)


def _fitting(draw: ImageDraw.ImageDraw, label: str, score: str, font: Font, pad: int) -> str:
    """Label and score, the label cut as far as the picture is too narrow.

    Nothing where not even the score fits, and on an icon, which it would hide.
    """
    width, height = draw.im.size

    def fits(text: str) -> bool:
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        return bool(right - left + 2 * pad <= width and bottom - top + 2 * pad <= height / _LEAST_HEIGHT_IN_LABELS)

    shown = label[:_MOST_LETTERS]
    cut = (shown[:length].rstrip() + "…" for length in range(len(shown) - 1, 0, -1))
    whole = [label] if shown == label else []
    return next((text for name in (*whole, *cut) if fits(text := f"{name} {score}")), score if fits(score) else "")


def _readable_on(colour: Colour) -> str:
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return "black" if luminance > 140 else "white"
