"""Where a caller may have a result written: the `output` of a job or of a sidecar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from service.core.naming import (
    FOLDER_PROMPTS,
    SIDECAR_SUFFIXES,
    check_name,
    error_name,
    gs_uri,
    is_folder_prompts,
    parse_gs_uri,
)
from service.errors import BadField

# What would start work or be mistaken for it: sidecars, prompts of a folder, error documents.
_TAKEN = (*SIDECAR_SUFFIXES, ".error.json")


class Output(NamedTuple):
    """The object that a result is to be written to."""

    bucket: str
    name: str

    @property
    def uri(self) -> str:
        """`gs://bucket/name`."""
        return gs_uri(self.bucket, self.name)


def parse_output(value: Any, write_buckets: Sequence[str]) -> Output | None:
    """Read the field `output`; None (also JSON's null) leaves the choice to the service.

    Raises BadField unless it is a gs:// URI in one of `write_buckets` that ends in `.json` and that is no name by
    which prompts or errors go.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadField("output", value, "it must be gs://bucket/object.json")
    output = Output(*parse_gs_uri(value, "output"))
    if output.bucket not in write_buckets:
        raise BadField("output", value, f"its bucket must be one of {', '.join(write_buckets)} (WRITE_BUCKETS)")
    if not output.name.endswith(".json"):
        raise BadField("output", value, "it must end in .json")
    if output.name.endswith(_TAKEN) or is_folder_prompts(output.name):
        raise BadField(
            "output", value, f"names ending in {', '.join(_TAKEN)} and {FOLDER_PROMPTS[0]} mean other things"
        )
    check_name(error_name(output.name), value, "output")
    return output
