"""Images that requests name by `image_uri`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.core.naming import parse_image_uri
from service.errors import BadField, CloudUnavailable, Forbidden, NotFound, TooLarge

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without buckets
    from service.gcp.storage import ObjectInfo, ObjectStore

_FIELD = "image_uri"
# An object that is replaced between look and read is looked at again.
_ATTEMPTS = 3


class BucketImages:
    """Reads objects of `buckets` of at most `max_bytes`; without a store there are none."""

    def __init__(self, store: ObjectStore | None, buckets: Sequence[str] = (), max_bytes: int = 0) -> None:
        self._store = store
        self._buckets = buckets
        self._max_bytes = max_bytes

    def read(self, uri: str) -> bytes:
        """The bytes of the live object, or of the generation that `uri` names.

        Raises BadField for what is no such URI and where no bucket may be read, Forbidden for one in another bucket,
        NotFound, TooLarge, and CloudUnavailable when Cloud Storage does not answer or refuses us.
        """
        bucket, name, generation = parse_image_uri(uri, _FIELD)
        if self._store is None:
            raise BadField(_FIELD, uri, "this service reads from no bucket (READ_BUCKETS is not set)")
        if bucket not in self._buckets:
            allowed = ", ".join(self._buckets)
            raise Forbidden(f"{_FIELD}: {uri!r} is not allowed; its bucket must be one of {allowed} (READ_BUCKETS)")
        for _ in range(_ATTEMPTS):
            found = self._store.stat(bucket, name, generation)
            if found is None:
                raise NotFound(f"{_FIELD}: {uri!r} does not exist")
            try:
                return self._read(self._store, bucket, found)
            except NotFound:
                continue
        raise CloudUnavailable(f"{uri} kept changing")

    def _read(self, store: ObjectStore, bucket: str, found: ObjectInfo) -> bytes:
        if found.size > self._max_bytes:
            raise self._too_large(f"has {found.size} bytes")
        data = store.read(bucket, found.name, found.generation, self._max_bytes)
        if len(data) > self._max_bytes:
            raise self._too_large("is larger when it is unpacked")
        return data

    def _too_large(self, how: str) -> TooLarge:
        return TooLarge(f"{_FIELD}: the object {how}; at most {self._max_bytes} bytes are allowed (MAX_OBJECT_BYTES)")
