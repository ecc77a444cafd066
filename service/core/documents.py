"""The JSON documents made of a segmentation: the answer, the stored result or error, the message.

Rings stay arrays in them until `rendered` writes the bytes: as lists of lists of numbers they would take 150 bytes a
point in place of 8, gigabytes for thousands of instances.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from service.core import strict_json
from service.core.contours import hole_rings, outer_rings
from service.core.masks import rle
from service.core.options import Options, canonical_options
from service.core.prompts import PromptSet, canonical_prompts
from service.core.results import PromptResult, Segmentation
from service.core.sources import PromptSource
from service.errors import ServiceError

SCHEMA = "sam3.result/1"


@dataclass(frozen=True)
class SourceRecord:
    """The input object that was read; `crc32c` in base64 as Cloud Storage gives it."""

    uri: str
    generation: int
    crc32c: str | None = None


@dataclass(frozen=True)
class RequestRecord:
    """What was asked for, and by which object; None when the job's message brought the prompts."""

    prompt_set: PromptSet
    source: PromptSource | None


def segmentation_document(segmentation: Segmentation, options: Options) -> dict[str, Any]:
    """The JSON answer of `POST /segment`, with `masks_rle`, `contours` and `holes` where asked for.

    Pixels of the upright image; boxes rounded to 0.01 px, scores to 0.0001. Raises ValueError rather than let
    NaN or infinity through.
    """
    size_hw = (segmentation.image.height, segmentation.image.width)
    return {
        "image": asdict(segmentation.image),
        "model": asdict(segmentation.model),
        "results": [_prompt_document(result, size_hw, options) for result in segmentation.results],
        "timing_ms": {stage: _rounded(ms, 1) for stage, ms in segmentation.timing_ms.items()},
    }


def result_document(
    segmentation: Segmentation,
    request: RequestRecord,
    source: SourceRecord,
    job_id: str,
    created: datetime,
    renditions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The stored result of an input object: the whole answer and where it comes from. `created` is aware.

    `renditions`: the URIs of what lies beside it, by kind.
    """
    head = _head(source, job_id, created, request) | ({"renditions": dict(renditions)} if renditions else {})
    options = replace(request.prompt_set.options, return_masks=True, return_contours=True)
    return head | segmentation_document(segmentation, options)


def rendered(document: Mapping[str, Any]) -> bytes:
    """The document as JSON in UTF-8, without spaces; ValueError for a number that JSON does not have."""
    # All but the results may hold what a caller has sent, such as whole numbers of any size, which orjson refuses.
    parts = {
        name: value if name == "results" else orjson.Fragment(strict_json.compact(value))
        for name, value in document.items()
    }
    return orjson.dumps(parts, option=orjson.OPT_SERIALIZE_NUMPY)


def error_document(
    source: SourceRecord,
    error: ServiceError,
    job_id: str,
    created: datetime,
    request: RequestRecord | None = None,
) -> dict[str, Any]:
    """What is stored when the input is at fault; `request` is null when the prompts could not be read."""
    fault = {"code": error.code, "detail": error.detail, "retryable": False}
    return _head(source, job_id, created, request) | {"error": fault}


def summary(
    document: Mapping[str, Any],
    output_uri: str | None,
    *,
    ms: float | None = None,
    caller_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The data of the results message, from a result or error document, just made or read back for a replay.

    `counts` has the number of instances per label, over all prompts of that label; `output` is null when nothing was
    written.
    """
    outcome: dict[str, Any] = (
        {"status": "failed", "error": document["error"]}
        if "error" in document
        else {"status": "succeeded", "counts": _counts(document["results"])}
    )
    return outcome | {
        "input": document["input"],
        "output": output_uri,
        "job_id": document["job_id"],
        "id": caller_id,
        "metadata": None if metadata is None else dict(metadata),
        "ms": None if ms is None else _rounded(ms, 1),
    }


def _counts(results: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for found in results:
        counts[found["label"]] += len(found["scores"])
    return dict(counts)


def _prompt_document(result: PromptResult, size_hw: tuple[int, int], options: Options) -> dict[str, Any]:
    found = result.instances
    document: dict[str, Any] = {
        "label": result.label,
        "boxes": [[_rounded(edge, 2) for edge in instance.box_xyxy] for instance in found],
        "scores": [_rounded(instance.score, 4) for instance in found],
        "mask_shape": [len(found), 1, *size_hw],
    }
    if options.return_masks:
        document["masks_rle"] = [rle(instance.mask) for instance in found]
    if options.return_contours:
        document["contours"] = [outer_rings(instance.mask, options.simplify) for instance in found]
    if options.contour_holes:
        document["holes"] = [hole_rings(instance.mask, options.simplify) for instance in found]
    return document


def _head(source: SourceRecord, job_id: str, created: datetime, request: RequestRecord | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "job_id": job_id,
        "created": created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "input": asdict(source),
        "request": None if request is None else _request_document(request),
    }


def _request_document(request: RequestRecord) -> dict[str, Any]:
    document: dict[str, Any] = {
        "prompts": canonical_prompts(request.prompt_set.prompts),
        "options": canonical_options(request.prompt_set.options),
        "source": None if request.source is None else _present(asdict(request.source)),
    }
    metadata = request.prompt_set.metadata
    return document if metadata is None else document | {"metadata": metadata}


def _present(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def _rounded(value: float, digits: int) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} cannot be written as JSON")
    return round(number, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
