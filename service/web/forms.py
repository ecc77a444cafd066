"""The fields of a request to /segment, out of its body."""

from __future__ import annotations

from dataclasses import replace

from flask import Request

from service.core import strict_json
from service.core.fields import EXAMPLE, NAMES, Fields, parse_form, parse_json
from service.core.prompts import Limits
from service.errors import BadBody, BadField, MissingImage, UnsupportedMediaType


def read_fields(request: Request, limits: Limits) -> Fields:
    """Read a multipart form or a JSON object; the fields have an image or name one.

    Raises BadField, BadBody, MissingImage or UnsupportedMediaType, saying what is allowed.
    """
    _check_query(request)
    if request.mimetype == "multipart/form-data":
        return _from_form(request, limits)
    if request.mimetype == "application/json":
        return parse_json(_document(request.get_data(cache=False)), limits)
    if not request.mimetype:
        raise MissingImage(f"the request says no Content-Type; {EXAMPLE}")
    raise UnsupportedMediaType(f"{request.mimetype} is neither multipart/form-data nor application/json; {EXAMPLE}")


def _check_query(request: Request) -> None:
    """A field in the address would do nothing; anything else there is not ours (gateways add their own)."""
    for name, value in request.args.items():
        if name in NAMES:
            raise BadField(name, value, "it is in the address; send it in the body")


def _document(body: bytes) -> dict[str, object]:
    try:
        document = strict_json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise BadBody(f"the body is {error}" if str(error).startswith("not JSON") else f"the body: {error}") from None
    if not isinstance(document, dict):
        raise BadBody("the body must be a JSON object")
    return document


def _from_form(request: Request, limits: Limits) -> Fields:
    data = _file(request)
    fields = parse_form(dict(request.form.lists()), limits)
    if data is None and fields.image_uri is None:
        raise MissingImage(f"there is no field image; {EXAMPLE}")
    if data is not None and fields.image_uri is not None:
        raise BadField("image_uri", fields.image_uri, "give it or image, not both")
    return replace(fields, image=data)


def _file(request: Request) -> bytes | None:
    for name in request.files:
        if name != "image":
            raise BadField(name, "a file", "the only file is image")
    files = request.files.getlist("image")
    if len(files) > 1:
        raise BadField("image", f"{len(files)} files", "send one")
    data: bytes | None = files[0].read() if files else None
    return data
