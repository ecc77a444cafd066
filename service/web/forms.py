"""The fields of a request to /segment, out of its body."""

from __future__ import annotations

from dataclasses import replace

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from service.core import strict_json
from service.core.fields import EXAMPLE, NAMES, Fields, parse_form, parse_json
from service.core.prompts import Limits
from service.errors import BadBody, BadField, MissingImage, UnsupportedMediaType, shortened
from service.web.bodies import check_not_packed, whole_body
from service.web.multipart import Texts, read_parts

# More than a form may have at the highest MAX_PROMPTS; werkzeug reads no further.
MOST_PARTS = 1000 + len(NAMES)


def read_fields(request: Request, limits: Limits) -> Fields:
    """Read a multipart form or a JSON object; the fields have an image or name one.

    Raises BadField, BadBody, MissingImage or UnsupportedMediaType, saying what is allowed.
    """
    _check_query(request)
    if request.mimetype == "multipart/form-data":
        return _from_form(request, limits)
    if request.mimetype == "application/json":
        return parse_json(_document(whole_body(request)), limits)
    if not request.mimetype:
        raise MissingImage(f"the request says no Content-Type; {EXAMPLE}")
    raise UnsupportedMediaType(
        f"{shortened(request.mimetype)} is neither multipart/form-data nor application/json; {EXAMPLE}"
    )


def _check_query(request: Request) -> None:
    """A field in the address would do nothing; anything else there is not ours (gateways add their own)."""
    for name in request.args:
        if name in NAMES:
            raise BadField(name, "a value in the address", "send it in the body")


def _document(body: bytes) -> dict[str, object]:
    try:
        document = strict_json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise BadBody(f"the body is {error}" if str(error).startswith("not JSON") else f"the body: {error}") from None
    if not isinstance(document, dict):
        raise BadBody("the body must be a JSON object")
    return document


def _from_form(request: Request, limits: Limits) -> Fields:
    texts, files = _parts(request, limits)
    data = _file(files)
    fields = parse_form(texts, limits)
    if data is None and fields.image_uri is None:
        raise MissingImage(f"there is no field image; {EXAMPLE}")
    if data is not None and fields.image_uri is not None:
        raise BadField("image_uri", fields.image_uri, "give it or image, not both")
    return replace(fields, image=data)


def _parts(request: Request, limits: Limits) -> tuple[Texts, MultiDict[str, FileStorage]]:
    """The text fields and the files of a form."""
    check_not_packed(request)
    try:
        return read_parts(request)
    except RequestEntityTooLarge:
        # werkzeug says the same of too many parts.
        if request.content_length is None or request.content_length > (request.max_content_length or 0):
            raise
        raise BadField("prompts", f"more than {MOST_PARTS} fields", f"give 1 to {limits.max_prompts}") from None


def _file(files: MultiDict[str, FileStorage]) -> bytes | None:
    for name in files:
        if name != "image":
            raise BadField(shortened(name), "a file", "the only file is image")
    images = files.getlist("image")
    if len(images) > 1:
        raise BadField("image", f"{len(images)} files", "send one")
    return images[0].read() if images else None
