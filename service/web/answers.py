"""A segmentation as the body of an answer, whole or not at all."""

from __future__ import annotations

import json
import threading

from service.core.documents import segmentation_document
from service.core.fields import Fields
from service.core.options import Options
from service.core.renditions import mask_png, overlay_webp
from service.core.results import Segmentation
from service.engine.images import ImageLimits, decode
from service.errors import TooLarge
from service.settings import Settings

CONTENT_TYPES = {"json": "application/json", "png": "image/png", "overlay": "image/webp"}
_GS_WAY = "upload the image to an input bucket (gs://) with a sidecar, which has no such limit"


class Answers:
    """Renders answers in every format, within the limits of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._max_instances = settings.max_total_instances
        self._max_bytes = settings.max_response_bytes
        self._image_limits = ImageLimits(settings.max_pixels)
        # The image is decoded once more, for its picture: one at a time, whatever number of requests wait.
        self._one_picture = threading.Lock()

    def render(self, segmentation: Segmentation, fields: Fields, data: bytes) -> tuple[bytes, str]:
        """Body and content type. `data` is the image file. TooLarge where a limit would have to cut the answer."""
        self._check_count(segmentation)
        body = self._body(segmentation, fields, data)
        if len(body) > self._max_bytes:
            raise TooLarge(
                f"the answer has {len(body)} bytes; at most {self._max_bytes} are sent (MAX_RESPONSE_BYTES): {_GS_WAY}"
            )
        return body, CONTENT_TYPES[fields.format]

    def _check_count(self, segmentation: Segmentation) -> None:
        count = sum(len(result.instances) for result in segmentation.results)
        if count > self._max_instances:
            raise TooLarge(
                f"{count} instances were found; an answer holds at most {self._max_instances} (MAX_TOTAL_INSTANCES): "
                f"lower max_instances, or {_GS_WAY}"
            )

    def _body(self, segmentation: Segmentation, fields: Fields, data: bytes) -> bytes:
        if fields.format == "png":
            return mask_png(segmentation.results, (segmentation.image.height, segmentation.image.width))
        if fields.format == "overlay":
            with self._one_picture:
                return overlay_webp(decode(data, self._image_limits).rgb, segmentation.results)
        return _json(segmentation, fields.prompt_set.options)


def _json(segmentation: Segmentation, options: Options) -> bytes:
    document = segmentation_document(segmentation, options)
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
