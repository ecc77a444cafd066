"""What anybody may have named or written, on somebody's terminal: nothing in it must reach that as a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """With `·` for control characters, line breaks and all else that is not to be seen."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "·" for each in text)


def json_line(document: Mapping[str, Any]) -> str:
    """The document as JSON in one line, letters as they are and all that is not to be seen escaped."""
    text = json.dumps(document, ensure_ascii=False)
    if text.isprintable():
        return text
    # Within JSON such a character can only be part of a string.
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
