"""What was found, as pictures: the overlay on its image, and the index mask."""

from __future__ import annotations

import threading

from service.core.renditions import mask_png, overlay_webp
from service.core.results import Segmentation
from service.engine.images import ImageLimits, decode


class Pictures:
    """Draws segmentations of images within `limits`. May be called from many threads."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        # The image is decoded once more, for its picture: one at a time, whatever number of requests wait.
        self._one_picture = threading.Lock()

    def overlay(self, data: bytes, segmentation: Segmentation) -> bytes:
        """WebP of the image file `data` with masks, boxes, labels and scores."""
        with self._one_picture:
            return overlay_webp(decode(data, self._limits).rgb, segmentation.results)

    def index_mask(self, segmentation: Segmentation) -> bytes:
        """PNG with 0 or the number of the instance at each pixel; TooLarge when it cannot number all of them."""
        return mask_png(segmentation.results, (segmentation.image.height, segmentation.image.width))
