"""Values of Terraform on the wire: MessagePack, in which an extension of type 0 is a value that is not known yet.

Source: https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/object-wire-format.md
"""

from __future__ import annotations

import json
from typing import Any

import msgpack

from tests.deploy.standin.protocol import MESSAGES

UNKNOWN = msgpack.ExtType(0, b"\0")


def is_unknown(value: object) -> bool:
    """Whether a value is known only after apply; refinements of it count as unknown too."""
    return isinstance(value, msgpack.ExtType)


def decode(value: Any) -> Any:
    """The Python value of a DynamicValue; objects are dicts, and null is None."""
    if value.msgpack:
        return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)
    return json.loads(value.json) if value.json else None


def encode(value: Any) -> Any:
    """A DynamicValue."""
    return MESSAGES["DynamicValue"](msgpack=msgpack.packb(value, use_bin_type=True))
