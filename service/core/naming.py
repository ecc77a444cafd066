"""Which object is what, and what it is called: images, sidecars, outputs, URIs."""

from __future__ import annotations

import re

from service.errors import BadField, NameTooLong

SIDECAR_SUFFIXES = (".prompts.json", ".prompts.txt")
FOLDER_PROMPTS = ("_prompts.json", "_prompts.txt")
IMAGE_SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg",
    ".png", ".tif", ".tiff", ".webp",
)  # fmt: skip
MAX_NAME_BYTES = 1024  # https://cloud.google.com/storage/docs/objects#naming
_OUTPUT_SUFFIX, _ERROR_SUFFIX = ".json", ".error.json"
# The result of `a.jpg.error` would have the name of the error of `a.jpg`.
_NO_IMAGE = (_OUTPUT_SUFFIX, _ERROR_SUFFIX.removesuffix(_OUTPUT_SUFFIX), *SIDECAR_SUFFIXES)
RENDITION_SUFFIXES = {"overlay": ".overlay.webp", "mask_png": ".masks.png"}
"""What may lie beside a result, by the option that asks for it."""
BUCKET_NAME = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"  # https://cloud.google.com/storage/docs/buckets#naming
BUCKET_RULE = "3 to 222 small letters, digits, - _ and ., with a letter or digit at both ends"
"""How a bucket may be called, in words."""
_GS_URI = re.compile(r"gs://([^/]+)/(.+)", re.DOTALL)
_PINNED = re.compile(r"(.+)#([0-9]+)", re.DOTALL)
_MAX_GENERATION = 2**63 - 1
_KEY_DIGITS = 12


def is_sidecar(name: str) -> bool:
    """Whether `name` is the prompts of one image: `….prompts.json` or `….prompts.txt`, in small letters."""
    return name.endswith(SIDECAR_SUFFIXES) and _file_name(sidecar_base(name)) != ""


def is_folder_prompts(name: str) -> bool:
    """Whether `name` is the prompts of a folder: a file called `_prompts.json` or `_prompts.txt`, in small letters."""
    return _file_name(name) in FOLDER_PROMPTS


def is_image(name: str, content_type: str | None = None) -> bool:
    """Whether `name` is to be segmented, by its content type or its suffix; JSON, prompts and `….error` never are."""
    if not _file_name(name) or name.endswith(_NO_IMAGE) or is_folder_prompts(name):
        return False
    return (content_type or "").lower().startswith("image/") or _image_suffix(name) != ""


def sidecar_names(image: str) -> tuple[str, ...]:
    """The names under which prompts for `image` may lie, highest rank first: four, or two without a suffix."""
    stem = image.removesuffix(_image_suffix(image))
    bases = dict.fromkeys((stem, image))
    return tuple(base + suffix for suffix in SIDECAR_SUFFIXES for base in bases)


def sidecar_base(sidecar: str) -> str:
    """`in/photo.prompts.json` → `in/photo`: the image's name, whole or without its suffix."""
    for suffix in SIDECAR_SUFFIXES:
        sidecar = sidecar.removesuffix(suffix)
    return sidecar


def folder_of(name: str) -> str:
    """`in/photo.jpg` → `in/`, `photo.jpg` → "": the folder that an object lies in."""
    return name[: len(name) - len(_file_name(name))]


def folder_prompts_beside(name: str) -> tuple[str, ...]:
    """The names of the prompts of the folder that `name` lies in, highest rank first."""
    return tuple(folder_of(name) + file_name for file_name in FOLDER_PROMPTS)


def expand_prefix(prefix_template: str, bucket: str) -> str:
    """Put the input bucket's name where the output prefix says `{bucket}`."""
    return prefix_template.replace("{bucket}", bucket)


def output_name(prefix_template: str, bucket: str, name: str) -> str:
    """`in/kitchen.jpg` → `{prefix}in/kitchen.jpg.json`, for an input object of `bucket`.

    Raises NameTooLong when this name, or that of the error document beside it, is over the 1024 bytes of UTF-8
    that Cloud Storage allows.
    """
    return _checked(f"{expand_prefix(prefix_template, bucket)}{name}{_OUTPUT_SUFFIX}")


def keyed_output_name(prefix_template: str, bucket: str, name: str, key: str) -> str:
    """`in/kitchen.jpg` → `{prefix}in/kitchen.jpg.{12 digits of the job key}.json`, one for each job on an image.

    Raises NameTooLong as `output_name` does.
    """
    return _checked(f"{expand_prefix(prefix_template, bucket)}{name}.{key[:_KEY_DIGITS]}{_OUTPUT_SUFFIX}")


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
    if not re.fullmatch(BUCKET_NAME, match[1]):
        raise BadField(field, uri, f"its bucket cannot be called so: a bucket's name has {BUCKET_RULE}")
    return match[1], match[2]


def parse_image_uri(uri: str, field: str) -> tuple[str, str, int | None]:
    """Bucket, object name and pinned generation of `gs://bucket/name` or `gs://bucket/name#generation`.

    An object whose own name ends in `#` and digits can only be named with its generation. Raises BadField, under the
    name `field`, for anything else.
    """
    bucket, name = parse_gs_uri(uri, field)
    pinned = _PINNED.fullmatch(name)
    generation = None
    if pinned is not None:
        name, digits = pinned.groups()
        # Nineteen digits hold every int64; longer ones are refused before they are made a number.
        generation = int(digits) if len(digits) <= 19 else 0
        if not 0 < generation <= _MAX_GENERATION:
            raise BadField(field, uri, f"its generation must be a number from 1 to {_MAX_GENERATION}")
    check_name(name, uri, field)
    return bucket, name, generation


def check_name(name: str, uri: str, field: str) -> None:
    """Raise BadField for the object names that Cloud Storage itself would refuse at every try."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise BadField(field, uri, f"its name has {size} bytes, at most {MAX_NAME_BYTES} are allowed")
    if "\n" in name or "\r" in name or name in (".", ".."):
        raise BadField(field, uri, "Cloud Storage allows no such name")


def _checked(output: str) -> str:
    size = len(error_name(output).encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise NameTooLong(f"the output's name would have {size} bytes, at most {MAX_NAME_BYTES} are allowed: {output}")
    return output


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]


def _image_suffix(name: str) -> str:
    """The known image suffix of `name` as it is written there, or ""; `.jpg` alone has none."""
    stem, dot, suffix = _file_name(name).rpartition(".")
    return dot + suffix if stem and (dot + suffix).lower() in IMAGE_SUFFIXES else ""
