"""Which object is what, and what it is called: images, sidecars, outputs, URIs and the job key."""

from __future__ import annotations

import hashlib
import re

from service.core import strict_json
from service.core.prompts import PromptSet, canonical_options, canonical_prompts
from service.errors import BadField, NameTooLong

SIDECAR_SUFFIXES = (".prompts.json", ".prompts.txt")
IMAGE_SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg",
    ".png", ".tif", ".tiff", ".webp",
)  # fmt: skip
MAX_NAME_BYTES = 1024  # https://cloud.google.com/storage/docs/objects#naming
_OUTPUT_SUFFIX, _ERROR_SUFFIX = ".json", ".error.json"
RENDITION_SUFFIXES = {"overlay": ".overlay.webp", "mask_png": ".masks.png"}
"""What may lie beside a result, by the option that asks for it."""
_GS_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(.+)", re.DOTALL)


def is_sidecar(name: str) -> bool:
    """Whether `name` is the prompts of one image: `….prompts.json` or `….prompts.txt`, in small letters."""
    return name.endswith(SIDECAR_SUFFIXES) and _file_name(sidecar_base(name)) != ""


def is_image(name: str, content_type: str | None = None) -> bool:
    """Whether `name` is to be segmented, by its content type or its suffix; JSON and sidecars never are."""
    if not _file_name(name) or name.endswith((_OUTPUT_SUFFIX, *SIDECAR_SUFFIXES)):
        return False
    return (content_type or "").lower().startswith("image/") or _image_suffix(name) != ""


def sidecar_names(image: str) -> tuple[str, ...]:
    """The names under which prompts for `image` may lie, highest rank first: four, or two without a suffix."""
    stem = image.removesuffix(_image_suffix(image))
    bases = dict.fromkeys((stem, image))
    return tuple(base + suffix for suffix in SIDECAR_SUFFIXES for base in bases)


def sidecar_base(sidecar: str) -> str:
    """`in/photo.prompts.json` → `in/photo`: the image's name, whole or without its suffix."""
    return sidecar.removesuffix(".prompts.json").removesuffix(".prompts.txt")


def expand_prefix(prefix_template: str, bucket: str) -> str:
    """Put the input bucket's name where the output prefix says `{bucket}`."""
    return prefix_template.replace("{bucket}", bucket)


def output_name(prefix_template: str, bucket: str, name: str) -> str:
    """`in/kitchen.jpg` → `{prefix}in/kitchen.jpg.json`, for an input object of `bucket`.

    Raises NameTooLong when this name, or that of the error document beside it, is over the 1024 bytes of UTF-8
    that Cloud Storage allows.
    """
    output = f"{expand_prefix(prefix_template, bucket)}{name}{_OUTPUT_SUFFIX}"
    size = len(error_name(output).encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise NameTooLong(f"the output's name would have {size} bytes, at most {MAX_NAME_BYTES} are allowed: {output}")
    return output


def error_name(output: str) -> str:
    """`….json` → `….error.json`: where the failure of an input is written."""
    return output.removesuffix(_OUTPUT_SUFFIX) + _ERROR_SUFFIX


def rendition_name(output: str, kind: str) -> str:
    """`….json` → `….overlay.webp` or `….masks.png`, by the option that asks for it; its length is not checked."""
    return output.removesuffix(_OUTPUT_SUFFIX) + RENDITION_SUFFIXES[kind]


def gs_uri(bucket: str, name: str) -> str:
    """`gs://bucket/name`; the name stays as it is, nothing in it is escaped."""
    return f"gs://{bucket}/{name}"


def parse_gs_uri(uri: str, field: str = "uri") -> tuple[str, str]:
    """Bucket and object name of `gs://bucket/name`. Raises BadField, under the name `field`, for anything else."""
    match = _GS_URI.fullmatch(uri)
    if match is None:
        raise BadField(field, uri, "it must be gs://bucket/object")
    return match[1], match[2]


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


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]


def _image_suffix(name: str) -> str:
    """The known image suffix of `name` as it is written there, or ""; `.jpg` alone has none."""
    stem, dot, suffix = _file_name(name).rpartition(".")
    return dot + suffix if stem and (dot + suffix).lower() in IMAGE_SUFFIXES else ""
