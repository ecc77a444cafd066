"""Sprites placed in a scene by an affine map; positions are pixels, x to the right and y down."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.train_tiny.backgrounds import scale_of
from tools.train_tiny.sprites import Sprite


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
