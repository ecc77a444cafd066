"""The fields of `POST /segment`, from a form or from JSON, and their schema."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from service.core.options import ANSWER_OPTIONS, Options, option_from_text, parse_options
from service.core.prompts import Limits, PromptSet, parse_prompts
from service.errors import BadField, MissingImage, shortened

Format = Literal["json", "png", "overlay"]
_BASE64 = "the image file in standard base64 with padding, without line breaks and without a data: prefix"
_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]{0,20}://")
_URI_FIELD = "an object of Cloud Storage is named by image_uri=gs://bucket/object, other addresses are not read"
EXAMPLE = "send a file: curl -F image=@photo.jpg -F prompts=cat"


@dataclass(frozen=True)
class Fields:
    """A whole request to `POST /segment`. The image is a file beside the fields, in them, or named by them."""

    prompt_set: PromptSet
    format: Format = "json"
    image: bytes | None = None
    image_uri: str | None = None


class _Body(BaseModel):
    """What is sent besides options."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    image: str | None = Field(None, description=_BASE64)
    image_uri: str | None = Field(None, description="gs://bucket/object or gs://bucket/object#generation")
    prompts: list[Any] = Field(description="a list of phrases or of objects with text, boxes and box_labels")
    format: Format = Field("json", description="json, png or overlay")


_HINTS = get_type_hints(Options, include_extras=True)
_OPTION_FIELDS: dict[str, Any] = {name: (_HINTS[name], getattr(Options, name)) for name in ANSWER_OPTIONS}
Body: type[_Body] = create_model("SegmentRequest", __base__=_Body, **_OPTION_FIELDS)
"""The fields as JSON: what validates them, and what their schema is made of."""
NAMES = tuple(Body.model_fields)


def parse_form(form: Mapping[str, Sequence[str]], limits: Limits) -> Fields:
    """Read the text fields of a multipart form, each with all its values in the order sent.

    Raises BadField for an unknown field, a field other than `prompts` given twice, and a value not allowed;
    MissingImage for an image that is no file.
    """
    if "image" in form:
        address = any(map(_ADDRESS.match, form["image"]))
        raise MissingImage(f"image was sent as a text field; {_URI_FIELD if address else EXAMPLE}")
    for name, values in form.items():
        _check_known(name)
        if name != "prompts" and len(values) != 1:
            raise BadField(name, list(values), "give it once")
    sent = {name: values[0] for name, values in form.items() if name != "prompts"}
    single = {name: _from_text(name, text) for name, text in sent.items()}
    return _validated(single | {"prompts": list(form.get("prompts", ()))}, limits, sent)


def parse_json(document: Mapping[str, Any], limits: Limits) -> Fields:
    """Read the same fields as JSON values. Raises BadField as `parse_form` does, MissingImage without an image."""
    for name in document:
        _check_known(name)
    fields = _validated({"prompts": []} | dict(document), limits)
    if fields.image is None and fields.image_uri is None:
        raise MissingImage("there is no image; give image (base64) or image_uri (gs://bucket/object)")
    return fields


def _validated(values: dict[str, Any], limits: Limits, sent: Mapping[str, str] = {}) -> Fields:
    """`sent`: how the caller has spelt them, where that is not the values themselves."""
    try:
        body = Body.model_validate(values)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        raise BadField(name, _harmless(name, sent.get(name, values[name])), _allowed(name)) from None
    prompts = parse_prompts(body.prompts, limits)
    options = parse_options({name: getattr(body, name) for name in ANSWER_OPTIONS})
    if body.image is not None and body.image_uri is not None:
        raise BadField("image_uri", body.image_uri, "give it or image, not both")
    image = None if body.image is None else _decoded(body.image)
    return Fields(PromptSet(prompts, options), body.format, image, body.image_uri)


def _from_text(name: str, text: str) -> Any:
    return option_from_text(name, text) if name in ANSWER_OPTIONS else text.strip()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or what is no ASCII
        way = f"; {_URI_FIELD}" if _ADDRESS.match(text) else ""
        raise BadField("image", _harmless("image", text), _allowed("image") + way) from None


def _check_known(name: str) -> None:
    """Only the name of an unknown field is shown: its value may be an image or a token under a misspelt one."""
    if name not in NAMES:
        raise BadField(shortened(name), name, f"there is no such field, known are {', '.join(NAMES)}")


def _allowed(name: str) -> str:
    return f"it must be {Body.model_fields[name].description}"


def _harmless(name: str, value: object) -> object:
    """No part of an image belongs in a message."""
    if name != "image" or not isinstance(value, str | list | dict):
        return value
    return f"{len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
