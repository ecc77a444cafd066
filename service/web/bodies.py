"""The body of a request, whole or not at all."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from service.errors import UnsupportedMediaType


def whole_body(request: Request) -> bytes:
    """All bytes of the body. Raises RequestEntityTooLarge over MAX_CONTENT_LENGTH, UnsupportedMediaType when packed.

    werkzeug ends a chunked body at the limit as if it were over there. Only a server that ends the input itself can be
    asked whether there is more; another would wait for what never comes.
    """
    check_not_packed(request)
    body = request.get_data(cache=False)
    in_chunks = request.content_length is None and request.environ.get("wsgi.input_terminated")
    if in_chunks and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    return body


def check_not_packed(request: Request) -> None:
    """UnsupportedMediaType for a compressed body (RFC 9110, 8.4): nothing here unpacks it."""
    packed = request.headers.get("Content-Encoding", "identity")
    if packed.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding: {packed[:40]!r} is not allowed; send the body as it is")
