"""RGB arrays → what a vision encoder reads; the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def resize_to_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 → (3, side, side), antialiased bilinear as torchvision does it on uint8."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    if image.shape[:2] != (side, side):
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return pixels[0].contiguous().numpy()


def normalized(images: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """(3, S, S) uint8 each → (B, 3, S, S) float32 in [-1, 1] on the device."""
    pixels = torch.from_numpy(np.stack(images)).to(device)
    return pixels.float() / 127.5 - 1
