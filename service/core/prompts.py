"""What a caller asks for: prompts, and sidecar objects and other documents that hold them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.core import strict_json
from service.core.exemplars import VISUAL_TEXT, ExemplarBox, parse_boxes
from service.core.naming import SIDECAR_SUFFIXES, is_folder_prompts
from service.core.options import Options, parse_options
from service.core.outputs import Output, parse_output
from service.errors import BadField, BadSidecar, shortened

MAX_METADATA_BYTES = 8192
_SHOWN_IMAGES = 3


@dataclass(frozen=True)
class Prompt:
    """One phrase to look for, without surrounding whitespace, and exemplars of it; it is the label of its results."""

    text: str
    boxes: tuple[ExemplarBox, ...] = ()


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

    `metadata` is the caller's own and only echoed back. `output` is where the sidecar of one image wants the result.
    """

    prompts: tuple[Prompt, ...]
    options: Options = field(default_factory=Options)
    metadata: dict[str, Any] | None = None
    output: Output | None = None


_SIDECAR_FIELDS = ("prompts", "options", "output", "metadata")
_PROMPT_KEYS = ("text", "boxes", "box_labels")
_NO_LIST = (
    "it is a JSON list: repeat the field prompts of a form, begin a new line of a text sidecar, for each phrase; "
    "JSON takes the list itself"
)


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


def check_one_image(name: str, output: Output, images: Sequence[str]) -> None:
    """Raise BadSidecar unless the prompts `name`, which name an output, speak for one image: results are not joined.

    `images`: those that a sidecar speaks for; the prompts of a folder speak for whatever comes.
    """
    if is_folder_prompts(name):
        theirs, instead = "all images of the folder", "name it in the sidecar of one image, as photo.jpg.prompts.json"
    elif len(images) > 1:
        files = [image.rpartition("/")[2] for image in images[:_SHOWN_IMAGES]]
        theirs = ", ".join(shortened(file) for file in files) + (", …" if len(images) > len(files) else "")
        instead = f"give each a sidecar of its own instead, as {shortened(files[-1] + SIDECAR_SUFFIXES[0])}"
    else:
        return
    allowed = f"these prompts speak for {theirs}, whose results would replace each other there: {instead}"
    raise BadSidecar(f"{name}: {BadField('output', output.uri, allowed).detail}")


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
        return PromptSet(parse_prompts(prompts, limits))
    except BadField as error:
        raise ValueError(error.detail) from None


def canonical_prompts(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """JSON-ready prompts as understood, for the request record and the job key."""
    return [_canonical_prompt(prompt) for prompt in prompts]


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
    metadata = parse_metadata(document.get("metadata"))
    return PromptSet(parse_prompts(prompts, limits), parse_options(options or {}), metadata)


def parse_metadata(value: Any) -> dict[str, Any] | None:
    """Read the caller's own object, None when there is none. BadField for over 8 KiB of UTF-8 and for no object."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadField("metadata", value, "it must be an object")
    size = len(strict_json.compact(value))
    if size > MAX_METADATA_BYTES:
        raise BadField("metadata", f"{size} bytes", f"it has at most {MAX_METADATA_BYTES} bytes of JSON")
    return value


def check_keys(document: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise BadField, which shows no value, for a key that is not known: a misspelt one is not silently ignored."""
    for key in document:
        if key not in known:
            raise BadField(shortened(key), key, f"known are {', '.join(known)}")


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


def parse_prompts(values: Sequence[Any], limits: Limits) -> tuple[Prompt, ...]:
    """Read prompts, each a phrase, an object, or the JSON text of one. Raises BadField naming the place."""
    _check_count(len(values), limits)
    return tuple(_prompt(f"prompts[{index}]", value, limits) for index, value in enumerate(values))


def _check_count(count: int, limits: Limits) -> None:
    if not 1 <= count <= limits.max_prompts:
        raise BadField("prompts", f"{count} prompts", f"give 1 to {limits.max_prompts}")


def _prompt(field: str, value: Any, limits: Limits) -> Prompt:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json_prompt(field, value)
    elif isinstance(value, str) and value.lstrip().startswith("["):
        _check_no_list(field, value)
    if isinstance(value, dict):
        return _object_prompt(field, value, limits)
    return Prompt(_text(field, value, limits))


def _json_prompt(field: str, value: str) -> Any:
    try:
        return strict_json.loads(value)
    except ValueError as error:
        raise BadField(field, value, f"a prompt that begins with {{ must be a JSON object: {error}") from None


def _check_no_list(field: str, value: str) -> None:
    """Several phrases in one place would be looked for as one; `[sic] cat` is no JSON, and a phrase."""
    try:
        strict_json.loads(value)
    except ValueError:
        return
    raise BadField(field, value, _NO_LIST)


def _object_prompt(field: str, value: dict[str, Any], limits: Limits) -> Prompt:
    for key in value:
        if key not in _PROMPT_KEYS:
            raise BadField(f"{field}.{shortened(key)}", key, f"known are {', '.join(_PROMPT_KEYS)}")
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
