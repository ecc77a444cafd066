"""Reading an object that may be too large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import TooLarge

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without buckets
    from service.gcp.storage import ObjectInfo, ObjectStore


def read_within(store: ObjectStore, bucket: str, info: ObjectInfo, limit: int, setting: str) -> bytes:
    """The bytes of an object that was looked at; NotFound when that generation is gone.

    TooLarge, naming the limit and its setting, when it has more than `limit` bytes, as it is stored, which is not
    fetched then, or unpacked.
    """
    if info.size > limit:
        raise TooLarge(f"the object has {info.size} bytes; at most {limit} are allowed ({setting})")
    data = store.read(bucket, info.name, info.generation, limit)
    if len(data) > limit:
        raise TooLarge(f"the object, unpacked, has more than the {limit} bytes that are allowed ({setting})")
    return data
