"""JSON read strictly: what `json.loads` lets pass silently is an error here."""

from __future__ import annotations

import json
import math
from typing import Any


def loads(text: str) -> Any:
    """Parse one JSON document.

    Raises ValueError with a one-line reason, also for NaN and Infinity (spelled out or by overflow), for an
    object with the same key twice, and for nesting or numbers too large for the parser.
    """
    try:
        return json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_distinct_keys
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None


def canonical(value: Any) -> str:
    """Render `value` so that equal values give equal text: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"the key {key[:80]!r} is there twice")
        fields[key] = value
    return fields
