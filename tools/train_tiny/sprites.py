"""The drawings: shapes made from polygons, emoji from the committed sprite sheet.

A sprite is a list of square float32 RGBA images in [0, 1] with premultiplied alpha, largest first, halving in size.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tools.train_tiny.vocabulary import EMOJI, SHAPES, Concept

SHEET = Path(__file__).parent / "data" / "emoji.png"
CELL_PX = 128
SHEET_COLUMNS = 8
SMALLEST_LEVEL_PX = 32
# Noto Color Emoji holds 109-pixel bitmaps; FreeType refuses every other size.
_FONT_SIZE = 109

Sprite = list[NDArray[np.float32]]


def _outline(angles_deg: list[float], radii: list[float]) -> NDArray[np.float64]:
    """Polygon corners from compass angles (0 is up) and radii, in units of the half side, centred on 0."""
    angles = np.radians(angles_deg)
    return np.asarray(np.stack([np.sin(angles), -np.cos(angles)], 1) * np.array(radii)[:, None], np.float64)


_STAR = _outline([36.0 * corner for corner in range(10)], [1.0, 0.45] * 5)
_POLYGONS: dict[str, list[NDArray[np.float64]]] = {
    "square": [np.array([(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)])],
    "triangle": [np.array([(0, -1), (-0.92, 0.82), (0.92, 0.82)])],
    "star": [_STAR],
    "cross": [
        np.array([(-0.34, -1), (0.34, -1), (0.34, 1), (-0.34, 1)]),
        np.array([(-1, -0.34), (1, -0.34), (1, 0.34), (-1, 0.34)]),
    ],
}
_RING_HOLE = 0.58


def shape_alpha(shape: str, size_px: int) -> NDArray[np.uint8]:
    """Anti-aliased coverage of a shape that nearly fills a square of `size_px`; drawn four times larger, averaged."""
    canvas = np.zeros((size_px * 4, size_px * 4), np.uint8)
    centre = size_px * 2
    radius = centre * 0.96
    for polygon in _POLYGONS.get(shape, []):
        cv2.fillPoly(canvas, [np.rint(polygon * radius + centre).astype(np.int32)], 255)
    if shape in ("circle", "ring"):
        cv2.circle(canvas, (centre, centre), int(radius), 255, -1)
    if shape == "ring":
        cv2.circle(canvas, (centre, centre), int(radius * _RING_HOLE), 0, -1)
    return cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _levels(rgba: NDArray[np.float32]) -> Sprite:
    levels = [rgba]
    while (size := levels[-1].shape[0] // 2) >= SMALLEST_LEVEL_PX:
        levels.append(np.asarray(cv2.resize(rgba, (size, size), interpolation=cv2.INTER_AREA), np.float32))
    return levels


def _shape_sprite(shape: str) -> Sprite:
    alpha = shape_alpha(shape, 2 * CELL_PX).astype(np.float32) / 255
    return _levels(np.asarray(np.repeat(alpha[..., None], 4, axis=2), np.float32))


def _emoji_sprite(sheet: NDArray[np.uint8], index: int) -> Sprite:
    y, x = (CELL_PX * position for position in divmod(index, SHEET_COLUMNS))
    cell = np.asarray(sheet[y : y + CELL_PX, x : x + CELL_PX].astype(np.float32) / 255, np.float32)
    cell[..., :3] *= cell[..., 3:]
    return _levels(cell)


@cache
def _all_sprites() -> dict[str, Sprite]:
    sheet = np.array(Image.open(SHEET).convert("RGBA"))
    emoji = {entry.text: _emoji_sprite(sheet, index) for index, entry in enumerate(EMOJI)}
    return emoji | {shape: _shape_sprite(shape) for shape in SHAPES}


def sprite_of(concept: Concept) -> Sprite:
    """The sprite of a concept; a shape's is white, ready to be multiplied with its colour."""
    return _all_sprites()[concept.emoji.text if concept.emoji else str(concept.shape)]


def _render_emoji(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """One emoji, cropped to its ink and centred on a transparent square cell."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((12, 12), text, font=font, embedded_color=True)
    ink = canvas.crop(canvas.getbbox())
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)


def make_sheet(font_path: Path, sheet_path: Path) -> None:
    """Draw every emoji of the vocabulary with a colour font and save them as one RGBA sheet, in vocabulary order."""
    font = ImageFont.truetype(str(font_path), _FONT_SIZE)
    rows = -(-len(EMOJI) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_COLUMNS * CELL_PX, rows * CELL_PX))
    for index, emoji in enumerate(EMOJI):
        row, column = divmod(index, SHEET_COLUMNS)
        sheet.paste(_render_emoji(font, emoji.text), (column * CELL_PX, row * CELL_PX))
    sheet.save(sheet_path, optimize=True)
