"""What a caller asks for: prompts and options, read from a form or from a sidecar object."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from service.core import strict_json
from service.core.exemplars import VISUAL_TEXT, ExemplarBox, parse_boxes
from service.core.outputs import Output, parse_output
from service.errors import BadField, BadSidecar

MAX_METADATA_BYTES = 8192


@dataclass(frozen=True)
class Prompt:
    """One phrase to look for, without surrounding whitespace, and exemplars of it; it is the label of its results."""

    text: str
    boxes: tuple[ExemplarBox, ...] = ()


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


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; images of jobs and named outputs only in these buckets."""

    max_prompts: int = 64
    max_prompt_chars: int = 1000
    max_boxes: int = 16
    read_buckets: tuple[str, ...] = ()
    write_buckets: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptSet:
    """A whole request, prompts in the caller's order.

    `metadata` is the caller's own and only echoed back. `output` is where a sidecar wants the result.
    """

    prompts: tuple[Prompt, ...]
    options: Options = Options()
    metadata: dict[str, Any] | None = None
    output: Output | None = None


_OPTIONS = TypeAdapter(Options)
_DEFAULTS = asdict(Options())
_OPTION_NAMES = tuple(_DEFAULTS)
_MUST_BE = {name: field["description"] for name, field in _OPTIONS.json_schema()["properties"].items()}
_BESIDE_A_RESULT = ("overlay", "mask_png")
"""Options that ask for objects beside a stored result: an answer to a form has no place for them."""
_FORM_OPTIONS = tuple(name for name in _OPTION_NAMES if name not in _BESIDE_A_RESULT)
_FORM_FIELDS = ("prompts", *_FORM_OPTIONS)
_SIDECAR_FIELDS = ("prompts", "options", "output", "metadata")
_PROMPT_KEYS = ("text", "boxes", "box_labels")
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def parse_form(form: Mapping[str, Sequence[str]], limits: Limits = Limits()) -> PromptSet:
    """Read the text fields of a multipart form, each with all its values in the order sent.

    Raises BadField for an unknown field, a field other than `prompts` given twice, and a value not allowed.
    """
    for name, values in form.items():
        if name not in _FORM_FIELDS:
            known = ", ".join(("image (a file)", *_FORM_FIELDS))
            raise BadField(_short(name), name, f"there is no such field, known are {known}")
        if name != "prompts" and len(values) != 1:
            raise BadField(name, list(values), "give it once")
    prompts = _prompts(form.get("prompts", ()), limits)
    options = _options({name: _from_text(name, form[name][0]) for name in _FORM_OPTIONS if name in form})
    return PromptSet(prompts, options)


def parse_sidecar(name: str, data: bytes, limits: Limits = Limits()) -> PromptSet:
    """Read the sidecar object `name`: JSON if it ends in `.json`, else one prompt a line, `#` comments.

    JSON is a list of prompts or an object of `prompts`, `options`, `output` and `metadata` (at most 8 KiB).
    Raises BadSidecar naming the object, the position in it and the reason.
    """
    try:
        text = data.decode("utf-8-sig")
        if name.endswith(".json"):
            return _from_json(strict_json.loads(text), limits)
        return _from_lines(text, limits)
    except UnicodeDecodeError as error:
        raise BadSidecar(f"{name}: not UTF-8 text (byte {error.start})") from None
    except BadField as error:
        raise BadSidecar(f"{name}: {error.detail}") from None
    except ValueError as error:
        raise BadSidecar(f"{name}: {error}") from None


def parse_image_metadata(name: str, prompts: str, options: str | None, limits: Limits = Limits()) -> PromptSet:
    """Read the custom metadata of the image `name`: a JSON list of prompts, and a JSON object of options.

    Raises BadSidecar naming the object and the reason.
    """
    try:
        document: dict[str, Any] = {"prompts": _json_value("prompts", prompts)}
        if options is not None:
            document["options"] = _json_value("options", options)
        return _from_json(document, limits)
    except ValueError as error:
        raise BadSidecar(f"metadata of {name}: {error}") from None
    except BadField as error:
        raise BadSidecar(f"metadata of {name}: {error.detail}") from None


def parse_defaults(value: str, limits: Limits = Limits()) -> PromptSet:
    """Read the setting DEFAULT_PROMPTS: a JSON list, or one prompt. Raises ValueError saying what is wrong."""
    try:
        prompts = strict_json.loads(value) if value.startswith("[") else [value]
        return PromptSet(_prompts(prompts, limits))
    except BadField as error:
        raise ValueError(error.detail) from None


def canonical_prompts(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """JSON-ready prompts as understood, for the request record and the job key."""
    return [_canonical_prompt(prompt) for prompt in prompts]


def canonical_options(options: Options) -> dict[str, Any]:
    """JSON-ready options that decide what is found, for the request record and the job key.

    `return_masks` and `return_contours` choose what of it an answer shows and are left out: a stored result
    always has both. `overlay` and `mask_png` are there only when true: job keys from before there were any stay.
    """
    return {
        "threshold": options.threshold + 0.0,  # -0.0 is 0.0
        "mask_threshold": options.mask_threshold,
        "max_instances": options.max_instances,
    } | {name: True for name in _BESIDE_A_RESULT if getattr(options, name)}


def _canonical_prompt(prompt: Prompt) -> dict[str, Any]:
    """Without exemplars the text alone, so that their absence leaves job keys as they were before there were any."""
    if not prompt.boxes:
        return {"text": prompt.text}
    boxes, labels = [list(box.box_xyxy) for box in prompt.boxes], [box.label for box in prompt.boxes]
    return {"text": prompt.text, "boxes": boxes, "box_labels": labels}


def parse_prompt_set(document: Mapping[str, Any], limits: Limits) -> PromptSet:
    """Read `prompts`, `options` and `metadata` of a JSON object whose keys have been checked. Raises BadField."""
    prompts = document.get("prompts", [])
    if not isinstance(prompts, list):
        raise BadField("prompts", prompts, "it must be a list")
    options = document.get("options")
    if options is not None and not isinstance(options, dict):
        raise BadField("options", options, "it must be an object")
    return PromptSet(_prompts(prompts, limits), _options(options or {}), parse_metadata(document.get("metadata")))


def parse_metadata(value: Any) -> dict[str, Any] | None:
    """Read the caller's own object, None when there is none. Raises BadField when it is over 8 KiB or no object."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadField("metadata", value, "it must be an object")
    size = len(strict_json.canonical(value))
    if size > MAX_METADATA_BYTES:
        raise BadField("metadata", f"{size} bytes", f"it has at most {MAX_METADATA_BYTES} bytes of JSON")
    return value


def check_keys(document: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise BadField for a key that is not known, so that a misspelt one is not silently ignored."""
    for key, value in document.items():
        if key not in known:
            raise BadField(_short(key), value, f"known are {', '.join(known)}")


def _from_json(document: Any, limits: Limits) -> PromptSet:
    if isinstance(document, list):
        document = {"prompts": document}
    if not isinstance(document, dict):
        raise ValueError("must be a JSON list of prompts or a JSON object")
    check_keys(document, _SIDECAR_FIELDS)
    output = parse_output(document.get("output"), limits.write_buckets)
    return replace(parse_prompt_set(document, limits), output=output)


def _json_value(field: str, text: str) -> Any:
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _from_lines(text: str, limits: Limits) -> PromptSet:
    lines = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    _check_count(len(lines), limits)
    return PromptSet(tuple(_prompt(f"line {number}", line, limits) for number, line in lines))


def _prompts(values: Sequence[Any], limits: Limits) -> tuple[Prompt, ...]:
    _check_count(len(values), limits)
    return tuple(_prompt(f"prompts[{index}]", value, limits) for index, value in enumerate(values))


def _check_count(count: int, limits: Limits) -> None:
    if not 1 <= count <= limits.max_prompts:
        raise BadField("prompts", f"{count} prompts", f"give 1 to {limits.max_prompts}")


def _prompt(field: str, value: Any, limits: Limits) -> Prompt:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json_prompt(field, value)
    if isinstance(value, dict):
        return _object_prompt(field, value, limits)
    return Prompt(_text(field, value, limits))


def _json_prompt(field: str, value: str) -> Any:
    try:
        return strict_json.loads(value)
    except ValueError as error:
        raise BadField(field, value, f"a prompt that begins with {{ must be a JSON object: {error}") from None


def _object_prompt(field: str, value: dict[str, Any], limits: Limits) -> Prompt:
    for key in value:
        if key not in _PROMPT_KEYS:
            raise BadField(f"{field}.{_short(key)}", value[key], f"known are {', '.join(_PROMPT_KEYS)}")
    boxes = parse_boxes(field, value, limits.max_boxes)
    if "text" in value:
        return Prompt(_text(f"{field}.text", value["text"], limits), boxes)
    if not any(box.label for box in boxes):
        raise BadField(field, value, "it must have a text, or a box with label 1")
    return Prompt(VISUAL_TEXT, boxes)


def _text(field: str, value: Any, limits: Limits) -> str:
    if not isinstance(value, str):
        raise BadField(field, value, "a prompt must be text")
    text = value.strip()
    if len(text) > limits.max_prompt_chars:
        raise BadField(field, text, f"a prompt has at most {limits.max_prompt_chars} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise BadField(field, text, "a prompt must be one line without control characters")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise BadField(field, value, "a prompt must not be empty")
    return text


def _options(values: Mapping[str, Any]) -> Options:
    try:
        return _OPTIONS.validate_python(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        raise BadField(_short(name), problem["input"], _allowed(name)) from None


def _allowed(name: str) -> str:
    if name in _OPTION_NAMES:
        return f"it must be {_MUST_BE[name]}"
    return f"there is no such option, known are {', '.join(_OPTION_NAMES)}"


def _from_text(name: str, text: str) -> float | int | bool:
    """Turn the text of the form field `name` into the Python value that JSON would have brought."""
    kind = type(_DEFAULTS[name])
    text = text.strip()
    if kind is bool and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind is int and _WHOLE.fullmatch(text):
        return int(text)
    if kind is float and _DECIMAL.fullmatch(text):
        return float(text)
    raise BadField(name, text, _allowed(name))


def _short(name: str) -> str:
    return name if len(name) <= 40 and name.isprintable() else repr(name[:40])
