"""A segmentation as the body of an answer, whole or not at all."""

from __future__ import annotations

from service.core.documents import rendered, segmentation_document
from service.core.fields import Fields
from service.core.results import Segmentation
from service.engine.images import ImageLimits
from service.engine.pictures import Pictures
from service.errors import GS_WAY, TooLarge
from service.settings import Settings

CONTENT_TYPES = {"json": "application/json", "png": "image/png", "overlay": "image/webp"}


class Answers:
    """Renders answers in every format, of so many bytes as the settings allow."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_response_bytes
        self._pictures = Pictures(ImageLimits(settings.max_pixels))

    def render(self, segmentation: Segmentation, fields: Fields, data: bytes) -> tuple[bytes, str]:
        """Body and content type. `data` is the image file. TooLarge where the limit would have to cut the answer."""
        body = self._body(segmentation, fields, data)
        if len(body) > self._max_bytes:
            raise TooLarge(
                f"the answer has {len(body)} bytes; at most {self._max_bytes} are sent (MAX_RESPONSE_BYTES): {GS_WAY}"
            )
        return body, CONTENT_TYPES[fields.format]

    def _body(self, segmentation: Segmentation, fields: Fields, data: bytes) -> bytes:
        if fields.format == "png":
            return self._pictures.index_mask(segmentation)
        if fields.format == "overlay":
            return self._pictures.overlay(data, segmentation)
        return rendered(segmentation_document(segmentation, fields.prompt_set.options))
