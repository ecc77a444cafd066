"""Options: how to look, and what to answer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import BadField, shortened


@dataclass(frozen=True)
class Options:
    """How to look and what to answer. Each description completes the sentence "it must be …"."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    threshold: Annotated[float, Field(strict=True, ge=0, lt=1, description="a number from 0 to below 1")] = 0.5
    mask_threshold: Annotated[float, Field(strict=True, gt=0, lt=1, description="a number above 0 and below 1")] = 0.5
    max_instances: Annotated[int, Field(strict=True, ge=1, le=1000, description="a whole number from 1 to 1000")] = 200
    return_masks: Annotated[bool, Field(strict=True, description="true or false")] = False
    return_contours: Annotated[bool, Field(strict=True, description="true or false")] = False
    overlay: Annotated[bool, Field(strict=True, description="true or false")] = False
    mask_png: Annotated[bool, Field(strict=True, description="true or false")] = False
    nms_iou: Annotated[
        Annotated[float, Field(strict=True, ge=0, lt=1)] | None, Field(description="a number from 0 to below 1")
    ] = None
    simplify: Annotated[float, Field(strict=True, ge=0, le=1000, description="a number from 0 to 1000")] = 0.0
    contour_holes: Annotated[bool, Field(strict=True, description="true or false")] = False


BESIDE_A_RESULT = ("overlay", "mask_png")
"""Options that ask for objects beside a stored result: an answer has no place for them."""
_ONLY_SHOWN = ("return_masks", "return_contours")
"""Options that choose what of a result an answer shows: a stored result always has both."""
_ALWAYS_NAMED = ("threshold", "mask_threshold", "max_instances")
"""Options that were there before any job key was."""
_OPTIONS = TypeAdapter(Options)
_DEFAULTS = asdict(Options())
OPTION_NAMES = tuple(_DEFAULTS)
ANSWER_OPTIONS = tuple(name for name in OPTION_NAMES if name not in BESIDE_A_RESULT)
"""Options of `POST /segment`."""
_MUST_BE = {name: field["description"] for name, field in _OPTIONS.json_schema()["properties"].items()}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def parse_options(values: Mapping[str, Any]) -> Options:
    """Read options from JSON values. Raises BadField for an unknown one and for a value that is not allowed."""
    try:
        return _OPTIONS.validate_python(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        shown = problem["input"] if name in OPTION_NAMES else name
        raise BadField(shortened(name), shown, _allowed(name)) from None


def option_from_text(name: str, text: str) -> float | int | bool:
    """Turn the text of the option `name` into the Python value that JSON would have brought.

    Only the spelling is checked here: `yes` and `on` are booleans, `nan` and `1e99999` no numbers. Raises BadField.
    """
    kind = float if _DEFAULTS[name] is None else type(_DEFAULTS[name])
    text = text.strip()
    if kind is bool and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind is int and _WHOLE.fullmatch(text):
        return int(text)
    if kind is float and _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise BadField(name, text, _allowed(name))


def canonical_options(options: Options) -> dict[str, Any]:
    """JSON-ready options that decide what a stored result holds, for the request record and the job key.

    Those that came later are there only when they are not at their default: job keys from before there were any stay.
    """
    values = {name: _plain(value) for name, value in asdict(options).items() if name not in _ONLY_SHOWN}
    return {name: value for name, value in values.items() if name in _ALWAYS_NAMED or value != _DEFAULTS[name]}


def _plain(value: Any) -> Any:
    return value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0


def _allowed(name: str) -> str:
    if name in OPTION_NAMES:
        return f"it must be {_MUST_BE[name]}"
    return f"there is no such option, known are {', '.join(OPTION_NAMES)}"
