"""POST /segment: an image and its prompts in one request."""

from __future__ import annotations

import json

from flask import Blueprint, Response, request

from service.core.documents import segmentation_document
from service.core.prompts import PromptSet, parse_form
from service.core.results import Segmentation
from service.engine.place import Terms
from service.engine.segmenter import Segmenter
from service.errors import BadField, MissingImage, TooLarge, UnsupportedMediaType
from service.settings import Settings
from service.web.caller import has_gone

_EXAMPLE = "send a file: curl -F image=@photo.jpg -F prompts=cat"
_GS_WAY = "upload the image to an input bucket (gs://) with a sidecar, which has no such limit"


def blueprint(settings: Settings, segmenter: Segmenter) -> Blueprint:
    """The direct door."""
    door = Blueprint("segment", __name__)
    limits = settings.limits

    @door.post("/segment")
    def segment() -> Response:
        _check_media_type()
        data = _image()
        prompt_set = parse_form(dict(request.form.lists()), limits)
        segmentation = segmenter.segment(data, prompt_set, _terms(settings.request_timeout_s))
        _check_count(segmentation, settings.max_total_instances)
        return Response(_body(segmentation, prompt_set, settings.max_response_bytes), content_type="application/json")

    return door


def _terms(timeout_s: float) -> Terms:
    return Terms(timeout_s=timeout_s, gone=has_gone(request.environ))


def _check_media_type() -> None:
    if request.mimetype == "multipart/form-data":
        return
    if not request.mimetype:
        raise MissingImage(f"the request is empty; {_EXAMPLE}")
    raise UnsupportedMediaType(f"{request.mimetype} is not multipart/form-data; {_EXAMPLE}")


def _image() -> bytes:
    files = request.files.getlist("image")
    if "image" in request.form:
        raise MissingImage(f"image was sent as a text field; {_EXAMPLE}")
    for name in request.files:
        if name != "image":
            raise BadField(name, "a file", "the only file is image")
    if not files:
        raise MissingImage(f"there is no field image; {_EXAMPLE}")
    if len(files) > 1:
        raise BadField("image", f"{len(files)} files", "send one")
    data: bytes = files[0].read()
    return data


def _check_count(segmentation: Segmentation, limit: int) -> None:
    count = sum(len(result.instances) for result in segmentation.results)
    if count > limit:
        raise TooLarge(
            f"{count} instances were found; an answer holds at most {limit} (MAX_TOTAL_INSTANCES): "
            f"lower max_instances, or {_GS_WAY}"
        )


def _body(segmentation: Segmentation, prompt_set: PromptSet, limit: int) -> bytes:
    options = prompt_set.options
    document = segmentation_document(segmentation, masks=options.return_masks, contours=options.return_contours)
    body = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > limit:
        raise TooLarge(f"the answer has {len(body)} bytes; at most {limit} are sent (MAX_RESPONSE_BYTES): {_GS_WAY}")
    return body
