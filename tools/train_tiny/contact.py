"""A contact sheet: held-out scenes with what was found in them, for the eye."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tools.train_tiny.evaluation import THRESHOLD, Pair

TILE_PX = 200
_LABEL_PX = 16
_RIGHT, _WRONG = (20, 90, 20), (170, 20, 20)


def contact_sheet(pairs: Sequence[Pair], columns: int, path: Path) -> None:
    """Write one picture, a tile a pair: finds outlined, the phrase below, in red where the pair is not all right."""
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * TILE_PX, rows * (TILE_PX + _LABEL_PX)), "white")
    for index, pair in enumerate(pairs):
        row, column = divmod(index, columns)
        sheet.paste(_tile(pair), (column * TILE_PX, row * (TILE_PX + _LABEL_PX)))
    sheet.save(path, quality=80, method=6)


def _tile(pair: Pair) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX + _LABEL_PX), "white")
    scene = Image.fromarray(_outlined(pair))
    scene.thumbnail((TILE_PX - 4, TILE_PX - 2), Image.Resampling.LANCZOS)
    tile.paste(scene, ((TILE_PX - scene.width) // 2, (TILE_PX - scene.height) // 2))
    figures = pair.figures
    right = figures.matched == figures.found == figures.instances
    prompt = pair.prompt
    boxes = f" +{len(prompt.exemplars)}" * bool(prompt.exemplars) + f" -{len(prompt.excluded)}" * bool(prompt.excluded)
    label = f"{prompt.text}{boxes}: {figures.matched} of {figures.instances}, {figures.found - figures.matched} wrong"
    ImageDraw.Draw(tile).text((3, TILE_PX + 1), label, fill=_RIGHT if right else _WRONG)
    return tile


def _outlined(pair: Pair) -> NDArray[np.uint8]:
    """The scene at about the tile's size, with each find tinted and outlined, and the boxes of the prompt."""
    height, width = pair.scene.image.shape[:2]
    scale = 2 * TILE_PX / max(height, width)
    size_wh = (round(width * scale), round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = np.asarray(cv2.resize(pair.scene.image, size_wh, interpolation=method), np.uint8)
    for index, mask in enumerate(pair.found.above(THRESHOLD)):
        small = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_LINEAR)
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(index * 0.382 % 1, 1, 1))
        inside = small > 0
        image[inside] = (0.6 * image[inside] + 0.4 * np.array(colour)).astype(np.uint8)
        rings, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, rings, -1, (255, 255, 255), 4)
        cv2.drawContours(image, rings, -1, colour, 2)
    _draw_boxes(image, pair, scale)
    return image


def _draw_boxes(image: NDArray[np.uint8], pair: Pair, scale: float) -> None:
    for indices, colour in ((pair.prompt.exemplars, (0, 200, 0)), (pair.prompt.excluded, (230, 0, 0))):
        for index in indices:
            x0, y0, x1, y1 = (round(edge * scale) for edge in pair.scene.objects[index].box_xyxy)
            cv2.rectangle(image, (x0, y0), (x1, y1), colour, 3)
