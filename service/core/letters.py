"""What a message looks like in the dead-letter topic: as it was, within what Pub/Sub lets anybody publish."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

from service.core.envelopes import Message

# https://cloud.google.com/pubsub/quotas#resource_limits
_MAX_REQUEST_BYTES = 10_000_000
_MAX_ATTRIBUTES, _MAX_NAME_BYTES, _MAX_VALUE_BYTES = 100, 256, 1024
_FRAMING_BYTES = 2048  # the topic's name, field tags and lengths
# Publishers may not use names that begin so, although messages have some: Google's clients put traces there, Pub/Sub
# the schema: https://cloud.google.com/pubsub/docs/publisher#using-attributes.
_RESERVED = "goog"
# What a letter says about itself; a message may have attributes of these names, too.
_OURS = ("reason", "subscription")
_SET_ASIDE = "original-"
# Names that look as if they had been set aside are set aside once more: so no two become one, and all can be restored.
_MOVED = re.compile(rf"(?:{_SET_ASIDE})*(?:{_RESERVED}.*|{'|'.join(_OURS)})", re.DOTALL)
_GOOGLES = re.compile(rf"(?:{_SET_ASIDE})*{_RESERVED}.*", re.DOTALL)


def dead_letter(message: Message, reason: str) -> Message:
    """The message with the attributes `reason` and, where it is known, `subscription`, as far as there is room.

    Its own attributes have names that may be published and are none of these two: `original-…`, which `restored` takes
    back. What no Pub/Sub can have delivered, as its attributes are over the limits, becomes data: the JSON of a wrapped
    push; so does what is over them only with such names.
    """
    attributes = _aside(message.attributes, _MOVED)
    data = message.data
    if not _may_be_published(attributes):
        data, attributes = _as_push(message), {}
    left = _MAX_REQUEST_BYTES - _FRAMING_BYTES - len(data) - sum(len(f"{n}{v}".encode()) for n, v in attributes.items())
    for name, value in zip(_OURS, (_cut(reason), message.subscription), strict=True):
        left -= len(f"{name}{value}".encode())
        if value and left > 0 and len(attributes) < _MAX_ATTRIBUTES:
            attributes[name] = value
    return Message(data, attributes)


def set_aside(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes whose names may be published: `goog…` becomes `original-goog…`; the same where there is none."""
    if not any(name.startswith(_RESERVED) for name in attributes):
        return dict(attributes)
    return _aside(attributes, _GOOGLES)


def restored(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes under the names that they had before `dead_letter`, without those that it has added."""
    own = {name: value for name, value in attributes.items() if name not in _OURS}
    names = {name: name.removeprefix(_SET_ASIDE) for name in own if _MOVED.fullmatch(name)}
    return {names.get(name, name): value for name, value in own.items()}


def _aside(attributes: Mapping[str, str], which: re.Pattern[str]) -> dict[str, str]:
    return {_SET_ASIDE + name if which.fullmatch(name) else name: value for name, value in attributes.items()}


def _may_be_published(attributes: Mapping[str, str]) -> bool:
    """Whether Pub/Sub takes them."""
    if len(attributes) > _MAX_ATTRIBUTES or any(
        len(value.encode()) > _MAX_VALUE_BYTES for value in attributes.values()
    ):
        return False
    return all(0 < len(name.encode()) <= _MAX_NAME_BYTES for name in attributes)


def _as_push(message: Message) -> bytes:
    inner = {"data": base64.b64encode(message.data).decode(), "attributes": dict(message.attributes)}
    return json.dumps({"message": inner | {"messageId": message.message_id}}).encode()


def _cut(reason: str) -> str:
    return reason.encode(errors="replace")[:_MAX_VALUE_BYTES].decode(errors="ignore")
