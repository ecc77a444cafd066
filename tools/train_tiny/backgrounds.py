"""Backgrounds without any object: gradients, clouds, cloth, landscapes and blurred lights; strokes and grain over them.

Canvases are float32 HxWx3 RGB in 0..255; structures are sized in reference pixels, so that they look alike at every
resolution.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
REFERENCE_PX = 168
"""Side of the scene in which sizes are stated; larger scenes scale with the root of their area."""
NATIVE_PX = 224
"""Side of the scenes that the model sees without resizing."""


def scale_of(size_hw: tuple[int, int]) -> float:
    """How many pixels of a scene make one pixel of the reference scene."""
    return math.sqrt(size_hw[0] * size_hw[1]) / REFERENCE_PX


def _enlarged(grid: NDArray[np.float32], size_hw: tuple[int, int]) -> Canvas:
    """A coarse grid (h, w, channels) blended smoothly over the scene."""
    large = cv2.resize(grid, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(large.reshape(*size_hw, -1), np.float32)


def _normal(rng: np.random.Generator, rows: int, columns: int, channels: int) -> NDArray[np.float32]:
    return rng.standard_normal((rows, columns, channels), dtype=np.float32)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.uniform(40, 220, 3).astype(np.float32)


def _gradient(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """A few random colours on a coarse grid."""
    cells = int(rng.integers(2, 7))
    spread = rng.uniform(5, 45) * rng.uniform(0.3, 1, 3).astype(np.float32)
    return _enlarged(_colour(rng) + _normal(rng, cells, cells, 3) * spread.astype(np.float32), size_hw)


def _fractal(rng: np.random.Generator, size_hw: tuple[int, int], octaves: int = 4) -> Canvas:
    """Fractal noise (H, W, 1) of order 1: each octave twice as fine and a little more than half as strong."""
    cells = int(rng.integers(2, 5))
    total = np.zeros((*size_hw, 1), np.float32)
    for octave in range(octaves):
        side = cells * 2**octave
        total += _enlarged(_normal(rng, side, side, 1), size_hw) * np.float32(0.6**octave)
    return total


def _clouds(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Two colours mixed by fractal noise: stone, cloud, foliage, water."""
    mix = 0.5 + 0.35 * _fractal(rng, size_hw)
    first = _colour(rng)
    second = first + rng.normal(0, 35, 3).astype(np.float32)
    return first + (second - first) * mix


def _cloth(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Soft stripes, sometimes crossed, over a gradient."""
    height, width = size_hw
    canvas = _gradient(rng, size_hw)
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(scale_of(size_hw))
    for _ in range(int(rng.integers(1, 3))):
        angle, period = rng.uniform(0, math.pi), rng.uniform(5, 24)
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period) + rng.uniform(0, 6))
        canvas += wave[..., None].astype(np.float32) * np.float32(rng.uniform(4, 16))
    return canvas


def _landscape(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Something like a sky over something like a ground, with a wavy border between them."""
    height, width = size_hw
    sky, ground = _colour(rng) * np.float32(0.5) + np.float32(110), _colour(rng) * np.float32(0.8)
    horizon = rng.uniform(0.25, 0.75) + 0.06 * _enlarged(_normal(rng, 1, int(rng.integers(3, 9)), 1), (1, width))
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    share = np.clip((down - horizon) * np.float32(scale_of(size_hw) * rng.uniform(8, 80)) + 0.5, 0, 1)
    shaded = sky * (0.8 + 0.3 * down) * (1 - share) + ground * (1.2 - 0.5 * down) * share
    return np.asarray(shaded + _fractal(rng, size_hw) * (4 + np.float32(rng.uniform(0, 16)) * share), np.float32)


def _lights(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Soft spots of colour, as a lens out of focus leaves them."""
    height, width = size_hw
    canvas = _gradient(rng, size_hw)
    y, x = np.ogrid[:height, :width]
    for _ in range(int(rng.integers(3, 10))):
        radius = np.float32(rng.uniform(8, 40) * scale_of(size_hw))
        distance = (x - rng.uniform(0, width)) ** 2 + (y - rng.uniform(0, height)) ** 2
        spot = np.exp(-distance / (2 * radius**2)).astype(np.float32)[..., None]
        canvas += spot * rng.normal(0, 40, 3).astype(np.float32)
    return canvas


_KINDS = (_gradient, _clouds, _cloth, _landscape, _lights)


def _add_strokes(rng: np.random.Generator, canvas: Canvas) -> None:
    """Clutter that is nothing in the vocabulary: thin polylines."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(2, 9))):
        points = (rng.uniform(-0.1, 1.1, (int(rng.integers(2, 5)), 2)) * (width, height)).astype(np.int32)
        colour = tuple(float(value) for value in rng.uniform(30, 230, 3))
        thickness = max(1, round(rng.uniform(0.6, 2) * scale_of((height, width))))
        cv2.polylines(canvas, [points], bool(rng.random() < 0.2), colour, thickness, cv2.LINE_AA)


def background(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """A background of any kind, with strokes in a third of the scenes."""
    canvas = np.clip(_KINDS[int(rng.integers(len(_KINDS)))](rng, size_hw), 10, 245)
    if rng.random() < 0.35:
        _add_strokes(rng, canvas)
    return canvas


def expose(rng: np.random.Generator, canvas: Canvas) -> None:
    """Light, lens and sensor, in place: uneven light, sometimes blur, always grain of one reference pixel.

    Grain that fine survives the resize to the model's input, as real sensor noise would not.
    """
    size_hw = (canvas.shape[0], canvas.shape[1])
    if rng.random() < 0.5:
        canvas *= 1 + np.float32(rng.uniform(0.02, 0.12)) * _enlarged(_normal(rng, 2, 2, 1), size_hw)
    if rng.random() < 0.3:
        cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.8) * scale_of(size_hw), dst=canvas)
    grain = _normal(rng, REFERENCE_PX, REFERENCE_PX, 3) * np.float32(rng.uniform(1, 10))
    canvas += cv2.resize(grain, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
