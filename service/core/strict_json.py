"""JSON read and written strictly: what `json` lets pass silently is an error here."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 64
MAX_DIGITS = 4000
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(text: str) -> Any:
    """Parse one JSON document.

    Raises ValueError with a one-line reason, also for NaN and Infinity (spelled out or by overflow), for an
    object with the same key twice, for text that UTF-8 cannot carry, and for nesting over 64 levels.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_distinct_keys,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    _check(value, MAX_DEPTH)
    return value


def canonical(value: Any) -> str:
    """Render `value` so that equal values give equal text: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def compact(value: Any) -> bytes:
    """Render `value` in UTF-8 without spaces; ValueError for NaN and Infinity, which JSON does not have."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _check(value: Any, levels_left: int) -> None:
    if levels_left == 0:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, levels_left - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, levels_left - 1)


def _check_text(text: str) -> None:
    if _SURROGATE.search(text):
        raise ValueError(f"half a surrogate pair in {text[:80]!r}")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"the key {key[:80]!r} is there twice")
        fields[key] = value
    return fields
