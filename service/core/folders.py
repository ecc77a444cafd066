"""A folder's prompts and the images under it: the messages with which one fans out, page by page, to the others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.core.naming import folder_of, gs_uri, parse_gs_uri
from service.errors import BadEnvelope, BadField

# Attributes of the messages of `image_job`. No caller's job has them, and a worker that does not know them passes over
# them, where it would refuse a key of the message.
FAN_OUT = MappingProxyType({"sam3-job": "fan-out"})
_GENERATION = re.compile(r"(.+)#([1-9][0-9]{0,18})", re.DOTALL)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    folder: str
    after: Annotated[str, Field(max_length=1024)] = ""


@dataclass(frozen=True)
class FolderPage:
    """One generation of a folder's prompts, and the objects in it that follow the name `after` ("" at first)."""

    bucket: str
    name: str
    generation: int
    after: str = ""

    @property
    def uri(self) -> str:
        """`gs://bucket/path/_prompts.json#generation`."""
        return f"{gs_uri(self.bucket, self.name)}#{self.generation}"

    @property
    def folder(self) -> str:
        """The beginning of the names of all objects that lie under the folder; "" for the whole bucket."""
        return folder_of(self.name)

    def then(self, after: str) -> FolderPage:
        """The page that follows this one."""
        return replace(self, after=after)

    def encode(self) -> bytes:
        """The message for JOBS_TOPIC: `{"folder": "gs://bucket/in/_prompts.json#123", "after": "in/last.jpg"}`."""
        return json.dumps({"folder": self.uri, "after": self.after}).encode()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> FolderPage:
        """Read the decoded message. Raises BadEnvelope naming the field that is wrong."""
        try:
            fields = _Document.model_validate(document)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])[:80]
            raise BadEnvelope(f"not a folder page: {place}: {problem['msg']}") from None
        return cls(*_pinned(fields.folder), fields.after)


def image_job(bucket: str, name: str, generation: int) -> bytes:
    """The message for JOBS_TOPIC, with the attributes FAN_OUT, that asks for an image as its upload's event did."""
    return json.dumps({"image": f"{gs_uri(bucket, name)}#{generation}"}).encode()


def is_of_fan_out(attributes: Mapping[str, str]) -> bool:
    """Whether the message of a job with these attributes is one of `image_job`."""
    return all(attributes.get(name) == value for name, value in FAN_OUT.items())


def _pinned(uri: str) -> tuple[str, str, int]:
    """Everything up to the last `#` is the name: object names may have that character too."""
    match = _GENERATION.fullmatch(uri)
    try:
        if match is None:
            raise BadField("folder", uri, "it must be gs://bucket/folder/_prompts.json#generation")
        return (*parse_gs_uri(match[1], "folder"), int(match[2]))
    except BadField as error:
        raise BadEnvelope(f"not a folder page: {error.detail}") from None
