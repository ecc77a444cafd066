"""Images that requests name by `image_uri`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.core.naming import parse_image_uri
from service.errors import BadField, CloudUnavailable, Forbidden, NotFound, TooLarge
from service.worker.bounded import read_within

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without buckets
    from service.gcp.storage import ObjectStore

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
                return read_within(self._store, bucket, found, self._max_bytes, "MAX_OBJECT_BYTES")
            except TooLarge as error:
                raise TooLarge(f"{_FIELD}: {error.detail}") from None
            except NotFound:
                continue
        raise CloudUnavailable(f"{uri} kept changing")
