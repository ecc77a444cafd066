"""What may lie beside a result for people and tools: a picture of it, and an index mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from service.core.masks import Mask
from service.core.overlay import draw_overlay
from service.core.results import Instance, PromptResult
from service.errors import TooLarge

# A photo of 12 million pixels stays as it is; the format itself ends at 16383 (RFC 6386, 14 bits a side).
MAX_OVERLAY_PX = 4096
_WEBP_QUALITY = 85
_MOST_INSTANCES = np.iinfo(np.uint16).max


def overlay_webp(rgb: NDArray[np.uint8], results: Sequence[PromptResult]) -> bytes:
    """Draw the results over the upright photo (H, W, 3), scaled down to at most MAX_OVERLAY_PX a side, as WebP."""
    height, width = rgb.shape[:2]
    scale = min(1.0, MAX_OVERLAY_PX / max(height, width))
    if scale < 1:
        size_hw = max(1, round(height * scale)), max(1, round(width * scale))
        rgb = np.asarray(cv2.resize(rgb, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        results = [scaled(result, size_hw) for result in results]
    bgr = np.asarray(cv2.cvtColor(draw_overlay(rgb, results), cv2.COLOR_RGB2BGR), np.uint8)
    return _encoded(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])


def mask_png(results: Sequence[PromptResult], size_hw: tuple[int, int]) -> bytes:
    """The `index_mask` of the results as a grey PNG of 8 or 16 bits."""
    return _encoded(".png", index_mask(results, size_hw))


def index_mask(results: Sequence[PromptResult], size_hw: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (H, W) with, at each pixel, the number of the instance there: 1 for the first of the results, 0 for none.

    Instances are numbered through all results in their order. Where they overlap, the higher score is on top, of equal
    scores the lower number. uint8 up to 255 instances, else uint16; TooLarge when there are more than that can number.
    """
    instances = [instance for result in results for instance in result.instances]
    if len(instances) > _MOST_INSTANCES:
        raise TooLarge(f"mask_png: {len(instances)} instances were found; an index mask holds {_MOST_INSTANCES}")
    frame = np.zeros(size_hw, np.uint8 if len(instances) <= np.iinfo(np.uint8).max else np.uint16)
    numbered = sorted(enumerate(instances, start=1), key=lambda pair: (pair[1].score, -pair[0]))
    for number, instance in numbered:
        mask = instance.mask
        height, width = mask.crop_hw
        window = frame[mask.top : mask.top + height, mask.left : mask.left + width]
        window[mask.pixels.astype(bool)] = number
    return frame


def scaled(result: PromptResult, size_hw: tuple[int, int]) -> PromptResult:
    """The same instances on the image scaled down to `size_hw`; of a mask, the nearest pixels."""
    return replace(result, instances=tuple(_smaller(instance, size_hw) for instance in result.instances))


def _smaller(instance: Instance, size_hw: tuple[int, int]) -> Instance:
    full_height, full_width = instance.mask.size_hw
    by_y, by_x = size_hw[0] / full_height, size_hw[1] / full_width
    x0, y0, x1, y1 = instance.box_xyxy
    box_xyxy = (x0 * by_x, y0 * by_y, x1 * by_x, y1 * by_y)
    return Instance(instance.score, box_xyxy, _sampled(instance.mask, size_hw))


def _sampled(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """The pixels of a mask that are nearest to the centers of the smaller image's."""
    rows, top = _nearest(mask.top, mask.crop_hw[0], mask.size_hw[0], size_hw[0])
    columns, left = _nearest(mask.left, mask.crop_hw[1], mask.size_hw[1], size_hw[1])
    return Mask.of(np.ascontiguousarray(mask.pixels[rows][:, columns]), top, left, size_hw)


def _nearest(start: int, length: int, full: int, smaller: int) -> tuple[NDArray[np.intp], int]:
    """Which of `length` pixels from `start` on are sampled when `full` become `smaller`, and where the first goes."""
    sources = ((np.arange(smaller) + 0.5) * full / smaller).astype(np.intp)
    inside = np.flatnonzero((sources >= start) & (sources < start + length))
    return sources[inside] - start, int(inside[0]) if inside.size else 0


def _encoded(suffix: str, pixels: NDArray[np.uint8] | NDArray[np.uint16], options: Sequence[int] = ()) -> bytes:
    good, data = cv2.imencode(suffix, pixels, list(options))
    if not good:  # neither format refuses such arrays
        raise RuntimeError(f"OpenCV cannot write {pixels.shape} {pixels.dtype} as {suffix}")
    return data.tobytes()
