"""What the measurements feed in: mask logits shaped like objects, photos made of noise and shapes, and prompts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE_12MP_HW = (3000, 4000)
SIZE_1MP_HW = (864, 1152)
PROMPTS = (
    "cat", "dog", "red circle", "mug", "blue square", "apple", "tree", "car",
    "star", "fish", "bird", "house", "sun", "ball", "key", "fruit",
)  # fmt: skip
_RADII, _RADII_SHARES = (4, 8, 14, 24, 45), (0.3, 0.3, 0.2, 0.15, 0.05)


def object_logits(count: int, side: int = 288, seed: int = 7) -> NDArray[np.float32]:
    """(count, side, side) maps as a trained mask head gives them: one wobbly ellipse each, mostly small."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side].astype(np.float32) * (288 / side)
    return np.stack([_object(random, rows, columns) for _ in range(count)])


def _object(
    random: np.random.Generator, rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    radius = float(random.choice(_RADII, p=_RADII_SHARES))
    row, column = random.uniform(0, 288, 2)
    stretch, turn = random.uniform(0.6, 1.7), random.uniform(0, 2 * np.pi)
    along = (columns - column) * np.cos(turn) + (rows - row) * np.sin(turn)
    across = (rows - row) * np.cos(turn) - (columns - column) * np.sin(turn)
    angle = np.arctan2(across, along * stretch + 1e-9)
    edge = radius * (1 + 0.18 * np.sin(3 * angle + turn) + 0.08 * np.sin(7 * angle + 2 * turn))
    noise = cv2.GaussianBlur(random.standard_normal(rows.shape), (0, 0), 1.2)
    logits = (edge - np.hypot(along * stretch, across)) * 1.2 + 0.6 * noise - 0.4
    clipped: NDArray[np.float32] = np.clip(logits, -18, 12).astype(np.float32)
    return clipped


def photo(size_hw: tuple[int, int], seed: int = 1) -> NDArray[np.uint8]:
    """(H, W, 3) RGB with shapes, gradients and some sensor noise: compresses about as a photo does."""
    random = np.random.default_rng(seed)
    height, width = size_hw
    coarse = random.integers(0, 256, (max(2, height // 160), max(2, width // 160), 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        center = int(random.integers(0, width)), int(random.integers(0, height))
        radius = int(random.integers(1, max(2, min(size_hw) // 8)))
        cv2.circle(image, center, radius, random.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    noise = random.integers(-6, 7, (height, width, 1), np.int8)
    return np.clip(image + noise.astype(np.int16), 0, 255).astype(np.uint8)


def encoded(rgb: NDArray[np.uint8], extension: str = ".jpg") -> bytes:
    """An image file of the kind that `extension` names."""
    good, data = cv2.imencode(extension, rgb[..., ::-1])
    assert good
    return data.tobytes()
