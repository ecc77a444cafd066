"""The message of the jobs topic: one image and what to do with it; and the key of a piece of work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.core import strict_json
from service.core.naming import parse_image_uri
from service.core.options import canonical_options
from service.core.outputs import Output, parse_output
from service.core.prompts import Limits, PromptSet, canonical_prompts, check_keys, parse_metadata, parse_prompt_set
from service.errors import BadField

MAX_ID_CHARS = 256
_FIELDS = ("image", "prompts", "options", "output", "id", "metadata")


@dataclass(frozen=True)
class JobRequest:
    """A job as its message asks for it.

    `generation` is the one that the job is pinned to, else it is for whatever is live. Without a `prompt_set` the
    prompts are found as an upload finds them. `id` and `metadata` are the caller's own and only echoed.
    only_repeats_upload: it comes from a folder's fan-out, and the event of its generation has asked for the same. When
    that is gone, the newer one's own event does the work, and nobody waits for an answer.
    """

    bucket: str
    name: str
    generation: int | None = None
    prompt_set: PromptSet | None = None
    output: Output | None = None
    id: str | None = None
    metadata: dict[str, Any] | None = None
    only_repeats_upload: bool = False


def parse_job(document: Mapping[str, Any], limits: Limits) -> JobRequest:
    """Read `{"image", "prompts", "options", "output", "id", "metadata"}`; all but `image` may be left out or null.

    Raises BadField, naming field, value and what is allowed, also for an image or output outside the buckets of
    `limits`, and for a key that is not known.
    """
    check_keys(document, _FIELDS)
    bucket, name, generation = _image(document.get("image"), limits)
    return JobRequest(
        bucket=bucket,
        name=name,
        generation=generation,
        prompt_set=_prompt_set(document, limits),
        output=parse_output(document.get("output"), limits.write_buckets),
        id=_id(document.get("id")),
        metadata=parse_metadata(document.get("metadata")),
    )


def job_key(bucket: str, name: str, generation: int, prompt_set: PromptSet, model_id: str, model_revision: str) -> str:
    """Identify one piece of work: equal inputs, prompts, options and model give the same 64 hex digits (SHA-256)."""
    work = {
        "bucket": bucket,
        "name": name,
        "generation": generation,
        "prompts": canonical_prompts(prompt_set.prompts),
        "options": canonical_options(prompt_set.options),
        "model": {"id": model_id, "revision": model_revision},
    }
    return hashlib.sha256(strict_json.canonical(work).encode()).hexdigest()


def _image(value: Any, limits: Limits) -> tuple[str, str, int | None]:
    if not isinstance(value, str):
        raise BadField("image", value, "it must be gs://bucket/object or gs://bucket/object#generation")
    bucket, name, generation = parse_image_uri(value, "image")
    if bucket not in limits.read_buckets:
        raise BadField("image", value, f"its bucket must be one of {', '.join(limits.read_buckets)} (READ_BUCKETS)")
    if name.endswith("/"):
        raise BadField("image", value, "it is a folder")
    return bucket, name, generation


def _prompt_set(document: Mapping[str, Any], limits: Limits) -> PromptSet | None:
    if document.get("prompts") is not None:
        return parse_prompt_set(document, limits)
    if document.get("options") is not None:
        raise BadField("options", document["options"], "give them together with prompts")
    return None


def _id(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadField("id", value, "it must be text")
    if value is not None and len(value) > MAX_ID_CHARS:
        raise BadField("id", value, f"it has at most {MAX_ID_CHARS} characters")
    return value
