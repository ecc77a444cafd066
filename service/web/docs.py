"""GET /openapi.json, and /docs: the same as a page that needs no script and no other server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from flask import Blueprint, Response, render_template

from service.core.prompts import Limits
from service.web import openapi as description

_NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class Row(NamedTuple):
    """One field of a schema in a table."""

    name: str
    kind: str
    default: str
    meaning: str


def blueprint(limits: Limits) -> Blueprint:
    """The description of every path, for programs and for people."""
    door = Blueprint("docs", __name__, template_folder="templates")
    described, as_json = description.document(limits), description.text(limits)

    @door.get("/openapi.json")
    def openapi() -> Response:
        return Response(as_json, content_type="application/json")

    @door.get("/docs")
    def docs() -> Response:
        page = render_template("docs.html", api=described, operations=list(_operations(described)), rows=_rows)
        return Response(page, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _NO_SCRIPTS})

    return door


def _operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _rows(schema: dict[str, Any]) -> list[Row]:
    """The properties of an object's schema; none of any other."""
    required = schema.get("required", ())
    return [
        Row(
            name,
            _kind(field),
            "required" if name in required else _default(field),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def _default(field: dict[str, Any]) -> str:
    return json.dumps(field["default"]) if field.get("default") is not None else ""


def _kind(field: dict[str, Any]) -> str:
    """A schema in a few words: `integer`, `list of number`, `Prompt`."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if "enum" in field or "const" in field:
        return " | ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    return str(field.get("type", "any"))
