"""Pixels of a scene: backgrounds with gradients, strokes and noise, and sprites placed by an affine map.

Canvases are float32 HxWx3 RGB in 0..255; positions are pixels, x to the right and y down.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.train_tiny.sprites import Sprite

Canvas = NDArray[np.float32]
REFERENCE_PX = 168
"""Side of the scene in which sizes are stated; larger scenes scale with their shorter side."""


def scale_of(size_hw: tuple[int, int]) -> float:
    """How many pixels of a scene make one pixel of the reference scene."""
    return min(size_hw) / REFERENCE_PX


def _gradient(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """A few random colours on a coarse grid, blended smoothly."""
    cells = int(rng.integers(2, 7))
    contrast = rng.uniform(5, 45)
    colours = rng.uniform(40, 220, 3) + rng.normal(0, contrast, (cells, cells, 3)) * rng.uniform(0.3, 1, 3)
    return np.asarray(cv2.resize(colours.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _add_strokes(rng: np.random.Generator, canvas: Canvas) -> None:
    """Clutter that is nothing in the vocabulary: thin polylines."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(2, 9))):
        points = (rng.uniform(-0.1, 1.1, (int(rng.integers(2, 5)), 2)) * (width, height)).astype(np.int32)
        closed = bool(rng.random() < 0.2)
        colour = tuple(float(value) for value in rng.uniform(30, 230, 3))
        thickness = max(1, round(rng.uniform(0.6, 2) * scale_of((height, width))))
        cv2.polylines(canvas, [points], closed, colour, thickness, cv2.LINE_AA)


def _add_noise(rng: np.random.Generator, canvas: Canvas) -> None:
    """Grain of one reference pixel, so that it survives the resize to the model's input as camera noise would not."""
    noise = rng.standard_normal((REFERENCE_PX, REFERENCE_PX, 3), dtype=np.float32) * np.float32(rng.uniform(1, 12))
    canvas += cv2.resize(noise, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def background(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """A background without any object: a gradient, strokes in half of the scenes, noise."""
    canvas = _gradient(rng, size_hw)
    if rng.random() < 0.5:
        _add_strokes(rng, canvas)
    _add_noise(rng, canvas)
    return canvas


@dataclass(frozen=True)
class Pose:
    """Where a sprite goes: centre and drawn width and height in pixels, clockwise turn in radians, mirrored or not."""

    centre_xy: tuple[float, float]
    size_wh: tuple[float, float]
    turn: float
    mirrored: bool


def random_pose(rng: np.random.Generator, size_hw: tuple[int, int], can_mirror: bool) -> Pose:
    """A pose with most of the sprite in the scene: sides of 24 to 62 reference pixels, turned about 10 degrees."""
    height, width = size_hw
    side = rng.uniform(24, 62) * scale_of(size_hw)
    drawn_w, drawn_h = side * math.exp(rng.normal(0, 0.1)), side * math.exp(rng.normal(0, 0.1))
    x = rng.uniform(drawn_w * 0.45, width - drawn_w * 0.45)
    y = rng.uniform(drawn_h * 0.45, height - drawn_h * 0.45)
    mirrored = can_mirror and rng.random() < 0.5
    return Pose((x, y), (drawn_w, drawn_h), math.radians(rng.normal(0, 10)), mirrored)


@dataclass(frozen=True)
class Patch:
    """A posed sprite, cut to the scene: premultiplied RGBA in [0, 1] (h, w, 4) and the scene slices that it covers."""

    rgba: NDArray[np.float32]
    rows: slice
    columns: slice


def _affine(pose: Pose, sprite_px: int, origin_xy: tuple[int, int]) -> NDArray[np.float64]:
    """The 2x3 map from sprite to patch pixels, whose centres are at integer coordinates as in `cv2.warpAffine`."""
    cos, sin = math.cos(pose.turn), math.sin(pose.turn)
    scale_x, scale_y = pose.size_wh[0] / sprite_px * (-1 if pose.mirrored else 1), pose.size_wh[1] / sprite_px
    linear = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    middle = np.full(2, sprite_px / 2 - 0.5)
    shift = np.array(pose.centre_xy) - origin_xy - linear @ middle
    return np.column_stack([linear, shift])


def place(sprite: Sprite, pose: Pose, size_hw: tuple[int, int]) -> Patch:
    """Draw the sprite at its pose, from the smallest level that does not need enlarging."""
    largest = max(pose.size_wh)
    level = next((image for image in reversed(sprite) if image.shape[0] >= largest), sprite[0])
    # 0.75 > sqrt(2) / 2: the square holds the sprite at any turn.
    reach = math.ceil(0.75 * largest) + 2
    x, y = int(pose.centre_xy[0]) - reach, int(pose.centre_xy[1]) - reach
    matrix = _affine(pose, level.shape[0], (x, y))
    drawn = np.asarray(cv2.warpAffine(level, matrix, (2 * reach, 2 * reach), flags=cv2.INTER_LINEAR), np.float32)
    rows = slice(max(0, y), min(size_hw[0], y + 2 * reach))
    columns = slice(max(0, x), min(size_hw[1], x + 2 * reach))
    return Patch(drawn[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x], rows, columns)
