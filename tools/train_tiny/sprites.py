"""The drawings: shapes made from polygons, emoji from the committed sprite sheet.

A sprite is a list of square float32 RGBA images in [0, 1] with premultiplied alpha, largest first, halving in size.
"""

import io
from collections.abc import Callable
from enum import StrEnum
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tools.train_tiny.vocabulary import EMOJI, SHAPES, Concept

_DATA = Path(__file__).parent / "data"
CELL_PX = 128
SHEET_COLUMNS = 8
SMALLEST_LEVEL_PX = 32
# Noto Color Emoji holds 109-pixel bitmaps; FreeType refuses every other size.
_FONT_SIZE = 109

Sprite = list[NDArray[np.float32]]


class Sheet(StrEnum):
    """Which family of drawings an emoji is from."""

    NOTO = "noto"
    TWEMOJI = "twemoji"

    @property
    def path(self) -> Path:
        """The committed sheet: every emoji of the vocabulary, in its order."""
        return _DATA / f"emoji-{self.value}.png"


def _outline(angles_deg: list[float], radii: list[float]) -> NDArray[np.float64]:
    """Polygon corners from compass angles (0 is up) and radii, in units of the half side, centred on 0."""
    angles = np.radians(angles_deg)
    return np.asarray(np.stack([np.sin(angles), -np.cos(angles)], 1) * np.array(radii)[:, None], np.float64)


def _heart() -> NDArray[np.float64]:
    """The well-known curve x = 16 sin³t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled to the square."""
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -(y + 2.5) / 14.6], 1)


_STAR = _outline([36.0 * corner for corner in range(10)], [1.0, 0.45] * 5)
_POLYGONS: dict[str, list[NDArray[np.float64]]] = {
    "square": [np.array([(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)])],
    "triangle": [np.array([(0, -1), (-0.92, 0.82), (0.92, 0.82)])],
    "star": [_STAR],
    "heart": [_heart()],
    "diamond": [np.array([(0, -1), (0.76, 0), (0, 1), (-0.76, 0)])],
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
def _emoji_sprites(sheet: Sheet) -> dict[str, Sprite]:
    pixels = np.array(Image.open(sheet.path).convert("RGBA"))
    return {entry.text: _emoji_sprite(pixels, index) for index, entry in enumerate(EMOJI)}


@cache
def _shape_sprites() -> dict[str, Sprite]:
    return {shape: _shape_sprite(shape) for shape in SHAPES}


def sprite_of(concept: Concept, sheet: Sheet = Sheet.NOTO) -> Sprite:
    """The sprite of a concept; a shape's is white, ready to be multiplied with its colour, and on no sheet."""
    return _emoji_sprites(sheet)[concept.emoji.text] if concept.emoji else _shape_sprites()[str(concept.shape)]


def _cell(drawn: Image.Image) -> Image.Image:
    """A drawing, cropped to its ink and centred on a transparent square cell."""
    ink = drawn.crop(drawn.getbbox())
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)


def _from_font(font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((12, 12), text, font=font, embedded_color=True)
    return canvas


def _from_svg(folder: Path, text: str) -> Image.Image:
    from cairosvg import svg2png  # type: ignore[import-not-found]  # only whoever draws a sheet anew needs it

    name = "-".join(f"{ord(character):x}" for character in text)
    return Image.open(io.BytesIO(svg2png(url=str(folder / f"{name}.svg"), output_width=4 * CELL_PX))).convert("RGBA")


def make_sheet(source: Path, sheet_path: Path) -> None:
    """Draw every emoji of the vocabulary and save them as one RGBA sheet, in vocabulary order.

    `source` is a colour font with 109-pixel bitmaps, or a folder of SVG files named by code point.
    """
    draw: Callable[[str], Image.Image] = (
        partial(_from_svg, source)
        if source.is_dir()
        else partial(_from_font, ImageFont.truetype(str(source), _FONT_SIZE))
    )
    rows = -(-len(EMOJI) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_COLUMNS * CELL_PX, rows * CELL_PX))
    for index, emoji in enumerate(EMOJI):
        row, column = divmod(index, SHEET_COLUMNS)
        sheet.paste(_cell(draw(emoji.text)), (column * CELL_PX, row * CELL_PX))
    sheet.save(sheet_path, optimize=True)
