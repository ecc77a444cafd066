"""Which call of Google's API a request is, and what of that API fake-gcs-server leaves out."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

from tools.localcloud.faults.calls import Call
from tools.localcloud.faults.http_proxy import Answer, Onwards, Request, refusal

# https://cloud.google.com/storage/docs/json_api/v1/objects
_OBJECTS = re.compile(r"(?:/(?P<way>upload|download))?/storage/v1/b/(?P<bucket>[^/]+)/o(?:/(?P<name>.+))?")
_BATCH = "/batch/storage/v1"  # https://cloud.google.com/storage/docs/batch; the service only looks at objects with it
_METHODS = {"GET": "stat", "DELETE": "delete"}


def storage_call(request: Request) -> Call:
    """A request of the JSON API."""
    parts = urlsplit(request.path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path == _BATCH:
        return Call("stat", request.path)
    found = _OBJECTS.fullmatch(parts.path)
    if found is None:
        return Call("other", request.path)
    bucket, name = found["bucket"], unquote(found["name"] or "")
    if found["way"] == "upload":
        return Call("write", f"{bucket}/{query.get('name') or _uploaded_name(request.body)}")
    if not name:
        return Call("list", f"{bucket}/{query.get('prefix', '')}")
    kind = "read" if query.get("alt") == "media" else _METHODS.get(request.method, "other")
    return Call(kind, f"{bucket}/{name}")


def _uploaded_name(body: bytes) -> str:
    """Of a multipart upload: the first part is the object's JSON resource."""
    begin = body.find(b"{")
    if begin < 0:
        return ""
    resource, _ = json.JSONDecoder().raw_decode(body[begin : begin + 65536].decode(errors="replace"))
    return str(resource.get("name", ""))


def unmet_delete(request: Request, onwards: Onwards) -> Answer | None:
    """412 for a delete of another generation than the live one: fake-gcs-server ignores `ifGenerationMatch` there.

    https://cloud.google.com/storage/docs/request-preconditions. A look and then the delete: not in one step.
    """
    parts = urlsplit(request.path)
    wanted = parse_qs(parts.query).get("ifGenerationMatch")
    if request.method != "DELETE" or wanted is None:
        return None
    found = onwards(Request("GET", parts.path, request.headers, b""))
    if found is None or found.status != 200:
        return found
    return None if [str(json.loads(found.body)["generation"])] == wanted else refusal(412)


def push_call(request: Request) -> Call:
    """A push of Pub/Sub: https://cloud.google.com/pubsub/docs/push#receive_push."""
    try:
        message = json.loads(request.body)["message"]
    except (ValueError, KeyError):
        return Call("push", "")
    return Call("push", str(message.get("messageId", "")))
