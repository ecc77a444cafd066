"""JSON schemas of what the HTTP doors read, made of the model that validates it, and of what they answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from service.core.fields import Body
from service.core.prompts import Limits
from service.core.results import ImageInfo, ModelInfo
from service.engine.state import Phase

Schema = dict[str, Any]

_STRICT = ConfigDict(extra="forbid")
_REF = "#/components/schemas/{model}"
_BOX_XYXY = Annotated[list[float], Field(min_length=4, max_length=4)]
_POINT_XY = Annotated[list[int], Field(min_length=2, max_length=2)]

MEANINGS = {
    "image": "The image file",
    "image_uri": "The image in Cloud Storage, instead of `image`; its bucket must be one of READ_BUCKETS",
    "prompts": "What to look for",
    "format": "`json`; `png`: the index mask, grey, with 0 or the number of the instance at each pixel; "
    "`overlay`: the picture with masks, boxes, labels and scores, as WebP",
    "threshold": "An instance's score must be greater",
    "mask_threshold": "The probability of a mask's pixel must be greater",
    "max_instances": "The best so many of each prompt, before anything else is done with them",
    "return_masks": "Adds `masks_rle`",
    "return_contours": "Adds `contours`",
    "nms_iou": "Drops an instance whose box overlaps that of a better one by more than this (intersection over union), "
    "within and across prompts; unset: none",
    "simplify": "Leaves out vertices of contours and holes that lie within so many pixels of what stays "
    "(Douglas-Peucker)",
    "contour_holes": "Adds `holes`",
}


@with_config(_STRICT)
class Rle(TypedDict):
    """COCO's compressed run lengths."""

    size: Annotated[list[int], Field(min_length=2, max_length=2, description="height and width")]
    counts: str


@with_config(_STRICT)
class PromptInstances(TypedDict):
    """The instances of one prompt, by falling score: item i of every list is instance i."""

    label: str
    boxes: Annotated[list[_BOX_XYXY], Field(description="[x0, y0, x1, y1] in pixels of the upright image")]
    scores: list[Annotated[float, Field(ge=0, le=1)]]
    mask_shape: Annotated[list[int], Field(min_length=4, max_length=4, description="[instances, 1, height, width]")]
    masks_rle: NotRequired[list[Rle]]
    contours: NotRequired[Annotated[list[list[list[_POINT_XY]]], Field(description="outer rings of [x, y]")]]
    holes: NotRequired[
        Annotated[
            list[list[list[_POINT_XY]]], Field(description="rings within contours: of holes, and of islands in them")
        ]
    ]


@with_config(_STRICT)
class SegmentAnswer(TypedDict):
    """What was found, in the order of the prompts."""

    image: ImageInfo
    model: ModelInfo
    results: list[PromptInstances]
    timing_ms: dict[str, float]


@with_config(_STRICT)
class Problem(TypedDict):
    """An RFC 9457 problem. `code` is stable, `detail` for people; `retryable`: the same request may succeed later."""

    type: Literal["about:blank"]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str
    retryable: bool


@with_config(_STRICT)
class Probe(TypedDict):
    """Where the model is; milliseconds of each phase that is over."""

    status: Literal["ok", "unavailable"]
    phase: Phase
    reason: Annotated[str, Field(description="what goes on before the model answers, or why it does not")]
    phases_ms: dict[str, float]


PUBSUB_PUSH: Schema = {
    "description": "A wrapped push (https://cloud.google.com/pubsub/docs/push). With the attributes of a Cloud Storage "
    "notification it is one, else its data is a job: docs/events.md.",
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {
            "type": "object",
            "properties": {
                "data": {"type": "string", "contentEncoding": "base64"},
                "attributes": {"type": "object", "additionalProperties": {"type": "string"}},
                "messageId": {"type": "string"},
            },
        },
        "subscription": {"type": "string"},
        "deliveryAttempt": {"type": "integer"},
    },
}
CLOUD_EVENT: Schema = {
    "description": "A structured CloudEvent 1.0; the binary form has the same attributes as headers `ce-…`.",
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "type": {
            "type": "string",
            "description": "google.cloud.storage.object.v1.finalized or google.cloud.pubsub.topic.v1.messagePublished; "
            "others are ignored",
        },
        "data": {"type": "object"},
    },
}


class _Untitled(GenerateJsonSchema):
    """Names say enough: no title repeats them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def components(limits: Limits) -> dict[str, Schema]:
    """Every schema by its name, with the limits of this deployment."""
    answers = (SegmentAnswer, Problem, Probe)
    inputs = [(each.__name__, "serialization", TypeAdapter(each)) for each in answers]
    _, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF, schema_generator=_Untitled)  # type: ignore[arg-type]
    found: dict[str, Schema] = dict(definitions["$defs"])
    return found | {
        "CloudEvent": CLOUD_EVENT,
        "PubSubPush": PUBSUB_PUSH,
        "Prompt": prompt_schema(limits),
        "SegmentRequest": request_schema(limits),
        "SegmentForm": form_schema(limits),
    }


def request_schema(limits: Limits) -> Schema:
    """The JSON body of `POST /segment`."""
    schema = Body.model_json_schema(schema_generator=_Untitled)
    fields: dict[str, Schema] = schema["properties"]
    for name, field in fields.items():
        field["description"] = f"{MEANINGS[name]}: {field['description']}"
    fields |= {name: _without_null(fields[name]) for name in ("image", "image_uri")}
    fields["image"] |= {"contentEncoding": "base64"}
    items = {"$ref": _REF.format(model="Prompt")}
    fields["prompts"] |= {"items": items, "minItems": 1, "maxItems": limits.max_prompts}
    one_image = [{"required": ["image"]}, {"required": ["image_uri"]}]
    return schema | {"oneOf": one_image, "description": "What to find, in which image, and what to answer."}


def form_schema(limits: Limits) -> Schema:
    """The same as a multipart form, where every value is text, and `image` a file."""
    schema = request_schema(limits)
    fields = {name: _without_null(field) for name, field in schema["properties"].items()}
    fields["image"] = {"type": "string", "format": "binary", "description": MEANINGS["image"]}
    return schema | {
        "properties": fields,
        "description": "The fields of SegmentRequest as text, `prompts` once for each prompt, an object as its JSON; "
        "true and false also as yes and no, on and off, 1 and 0.",
    }


def prompt_schema(limits: Limits) -> Schema:
    """One prompt: a phrase, or an object with exemplar boxes."""
    text = {"type": "string", "minLength": 1, "maxLength": limits.max_prompt_chars}
    boxes = {
        "type": "array",
        "maxItems": limits.max_boxes,
        "items": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        "description": "[x0, y0, x1, y1] in pixels of the upright image, x0 < x1 and y0 < y1",
    }
    labels = {
        "type": "array",
        "maxItems": limits.max_boxes,
        "items": {"enum": [0, 1]},
        "description": "for each box 1, like this, or 0, not like this; all 1 when left out",
    }
    with_boxes = {
        "type": "object",
        "properties": {"text": text, "boxes": boxes, "box_labels": labels},
        "additionalProperties": False,
        "anyOf": [{"required": ["text"]}, {"required": ["boxes"]}],
    }
    return {
        "description": "A phrase, one line without control characters, or an object; text may be left out where a box "
        "has label 1. A phrase that begins with { is read as the JSON of an object, one that is the "
        "JSON of a list is refused.",
        "anyOf": [text, with_boxes],
    }


def _without_null(field: Schema) -> Schema:
    """What is not sent is unset; a form has no null."""
    if "anyOf" not in field:
        return field
    kinds = [kind for kind in field["anyOf"] if kind != {"type": "null"}]
    rest = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
