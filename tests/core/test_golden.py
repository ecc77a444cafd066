"""What the overlay and the index mask look like, beside pictures that a person has looked at.

`GOLDEN=write python -m pytest tests/core/test_golden.py` makes them anew, for a person to look at again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.core.masks import Mask
from service.core.overlay import draw_overlay
from service.core.renditions import index_mask
from service.core.results import Instance, PromptResult
from service.engine.images import ImageLimits, decode

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LONGEST_PX = 640
Picture = NDArray[np.uint8]


def gradient(height: int, width: int) -> Picture:
    rows, columns = np.linspace(60, 180, height), np.linspace(40, 200, width)
    return np.stack(np.broadcast_arrays(rows[:, None], columns, 255 - rows[:, None]), axis=2).astype(np.uint8)


def disc(score: float, x: int, y: int, radius: int, size_hw: tuple[int, int]) -> Instance:
    side = 2 * radius + 1
    pixels = np.zeros((side, side), np.uint8)
    cv2.circle(pixels, (radius, radius), radius, 1, -1)
    return Instance(
        score, (x - radius, y - radius, x + radius, y + radius), Mask.of(pixels, y - radius, x - radius, size_hw)
    )


def upright_portrait() -> Picture:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(gradient(480, 320))).save(buffer, "PNG", exif=exif)
    return decode(buffer.getvalue(), ImageLimits()).rgb


def twelve(size_hw: tuple[int, int]) -> list[PromptResult]:
    """Two prompts; small and large, at the borders and overlapping."""
    radii = [20 + 5 * (i % 3) for i in range(11)]
    found = [
        disc(0.95 - i / 40, 60 + 105 * (i % 6), radius if i < 6 else size_hw[0] - 1 - radius, radius, size_hw)
        for i, radius in enumerate(radii)
    ]
    return [
        PromptResult("mug cup", tuple(found[:5])),
        PromptResult("a plate", (*found[5:], disc(0.5, 320, 200, 90, size_hw))),
    ]


def one(size_hw: tuple[int, int], radius: int) -> list[PromptResult]:
    return [PromptResult("cat", (disc(0.875, size_hw[1] // 2, size_hw[0] // 2, radius, size_hw),))]


CASES: dict[str, Callable[[], tuple[Picture, list[PromptResult]]]] = {
    "none": lambda: (gradient(400, 640), [PromptResult("cat", ())]),
    "one": lambda: (gradient(400, 640), one((400, 640), 90)),
    "twelve": lambda: (gradient(400, 640), twelve((400, 640))),
    "large": lambda: (gradient(3000, 4000), one((3000, 4000), 700)),
    "icon": lambda: (gradient(40, 40), one((40, 40), 12)),
    "portrait": lambda: (upright_portrait(), one((480, 320), 70)),
}


def small(picture: NDArray[Any], how: int) -> Picture:
    scale = min(1, LONGEST_PX / max(picture.shape[:2]))
    size_wh = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    return np.asarray(cv2.resize(picture, size_wh, interpolation=how), np.uint8)


def golden(name: str, now: Picture) -> NDArray[np.int16]:
    file = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        Image.fromarray(now).save(file, lossless=True)
    with Image.open(file) as image:
        return np.asarray(image, np.int16)


@pytest.mark.parametrize("name", CASES)
def test_the_overlay(name: str) -> None:
    photo, results = CASES[name]()
    now = small(draw_overlay(photo, results), cv2.INTER_AREA)
    before, plain = golden(f"{name}.overlay.webp", now), small(photo, cv2.INTER_AREA).astype(np.int16)
    assert now.shape == before.shape
    difference = np.abs(now - before).mean(axis=2)
    assert difference.mean() <= 2.55
    drawn = np.abs(before - plain).max(axis=2) > 8
    # A label that is missing is less than 1 % of a picture, but not of what is drawn on it.
    assert drawn.any() == any(result.instances for result in results)
    assert not drawn.any() or difference[drawn].mean() <= 2.55


@pytest.mark.parametrize("name", CASES)
def test_the_index_mask(name: str) -> None:
    photo, results = CASES[name]()
    now: Any = small(index_mask(results, photo.shape[:2]), cv2.INTER_NEAREST)
    before = golden(f"{name}.masks.png", now)
    assert now.max() == before.max()
    assert (now != before).mean() <= 0.01
    assert not before.any() or (now != before)[before > 0].mean() <= 0.01
