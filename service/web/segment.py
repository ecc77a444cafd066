"""POST /segment: an image and its prompts in one request."""

from __future__ import annotations

from flask import Blueprint, Response, request

from service.core.budget import Budget
from service.core.fields import Fields
from service.engine.queue_slot import Terms
from service.engine.segmenter import Segmenter
from service.settings import Settings
from service.web.answers import Answers
from service.web.bucket_images import BucketImages
from service.web.caller import has_gone
from service.web.forms import read_fields


def blueprint(settings: Settings, segmenter: Segmenter, images: BucketImages, budget: Budget) -> Blueprint:
    """The direct door; `budget` is that of the store behind `images`."""
    door = Blueprint("segment", __name__)
    limits = settings.limits
    answers = Answers(settings)

    @door.post("/segment")
    def segment() -> Response:
        with budget.within(settings.request_timeout_s):
            fields = read_fields(request, limits)
            data = _image(fields, segmenter, images)
            terms = Terms(
                timeout_s=budget.left_s(),
                gone=has_gone(request.environ),
                max_total=settings.max_total_instances,
            )
            segmentation = segmenter.segment(data, fields.prompt_set, terms)
        body, content_type = answers.render(segmentation, fields, data)
        return Response(body, content_type=content_type)

    return door


def _image(fields: Fields, segmenter: Segmenter, images: BucketImages) -> bytes:
    if fields.image is not None:
        return fields.image
    assert fields.image_uri is not None  # read_fields lets no request pass that has neither
    segmenter.require_ready()
    return images.read(fields.image_uri)
