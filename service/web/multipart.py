"""Multipart forms read strictly: what werkzeug leaves out or repairs without a word is an error here."""

from __future__ import annotations

import io
from typing import IO

from flask import Request
from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import File

from service.core.fields import NAMES
from service.errors import BadBody, BadField, shortened

Texts = dict[str, list[str]]

_NOT_ENDED = (
    "the multipart body does not end with its boundary: it is empty or cut off, or Content-Type names another boundary"
)
_AS_IT_IS = ("7bit", "8bit", "binary")


def read_parts(request: Request) -> tuple[Texts, MultiDict[str, FileStorage]]:
    """The text fields of a form, each with all its values in the order sent, and its files.

    Raises BadBody for what is no whole form and for a part without a name, BadField for a text that is not in its
    charset, RequestEntityTooLarge for too many bytes or parts.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise BadBody(
            "multipart/form-data without a boundary; clients set the header themselves when they make the form"
        )
    parser = _Parser(max_form_memory_size=request.max_form_memory_size, max_form_parts=request.max_form_parts)
    try:
        texts, files = parser.parse(request.stream, boundary.encode(), request.content_length)
    except ValueError as error:
        raise BadBody(_reason(error)) from None
    if not all((*texts, *files)):  # werkzeug says None where there is no name that it can read
        raise BadBody("a part of the form has no name")
    return {name: _decoded(name, values, parser.charsets[name]) for name, values in texts.lists()}, files


class _Parser(MultiPartParser):
    """Keeps texts as their bytes, to be decoded strictly, and files in memory, where all of them end up anyway."""

    def __init__(self, *, max_form_memory_size: int | None, max_form_parts: int | None) -> None:
        super().__init__(max_form_memory_size=max_form_memory_size, max_form_parts=max_form_parts)
        self.charsets: dict[str | None, list[str]] = {}

    def get_part_charset(self, headers: Headers) -> str:
        """Latin-1, in which every byte is a character; what the next text of this name is in goes to `charsets`."""
        _check_as_it_is(headers)
        name = parse_options_header(headers["Content-Disposition"])[1].get("name")
        self.charsets.setdefault(name, []).append(super().get_part_charset(headers))
        return "latin-1"

    def start_file_streaming(self, event: File, total_content_length: int | None) -> IO[bytes]:
        """Where the bytes of the file go."""
        _check_as_it_is(event.headers)
        return io.BytesIO()


def _check_as_it_is(headers: Headers) -> None:
    """RFC 7578, 4.7: over HTTP there is no reason to encode a part, and nothing here decodes it."""
    encoding = headers.get("Content-Transfer-Encoding", _AS_IT_IS[0])
    if encoding.lower() not in _AS_IT_IS:
        raise BadBody(f"a part of the form is in {shortened(encoding)} (Content-Transfer-Encoding); send it as it is")


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the head of a part of the form is not UTF-8 text"
    if "Content-Disposition" in str(error):
        return "a part of the form has no Content-Disposition"
    return _NOT_ENDED


def _decoded(name: str, values: list[str], charsets: list[str]) -> list[str]:
    """An image as text, and what has no known name, is refused for that, whatever it holds."""
    sent = [(value.encode("latin-1"), charset) for value, charset in zip(values, charsets, strict=True)]
    if name == "image" or name not in NAMES:
        return [data.decode(charset, "replace") for data, charset in sent]
    places = [f"prompts[{index}]" for index in range(len(sent))] if name == "prompts" else [name] * len(sent)
    return [_text(place, *each) for place, each in zip(places, sent, strict=True)]


def _text(place: str, data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        shown = data.decode(charset, "backslashreplace")
        raise BadField(place, shown, f"it must be {charset.upper()} text") from None
