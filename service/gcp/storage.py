"""Cloud Storage with generations and preconditions, and without policy."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import requests
from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from service.core.budget import unlimited
from service.errors import CloudUnavailable, DeadlineExceeded, NotFound, ObjectRefused, PreconditionFailed
from service.gcp.batch import MAX_CALLS, stat_batch

_CONNECT_S, _READ_S, _RETRY_S = 10.0, 60.0, 90.0
_FIELDS = "items(name,generation,metadata,contentType,size,crc32c),nextPageToken"
_TROUBLE = (
    api.GoogleAPIError,
    GoogleAuthError,
    requests.RequestException,
    InvalidResponse,
    DataCorruption,
    OSError,
)


@dataclass(frozen=True)
class ObjectInfo:
    """A live object as Cloud Storage describes it; `crc32c` is base64, `size` is in bytes."""

    name: str
    generation: int
    size: int
    content_type: str | None = None
    crc32c: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class ObjectStore:
    """The calls that the service makes. Every method raises CloudUnavailable when Google does not answer or refuses.

    `left_s`: the seconds that the calling thread still has. A call that is not answered ends within them, with all its
    attempts; one that begins after them raises DeadlineExceeded.
    """

    def __init__(self, client: storage.Client, left_s: Callable[[], float] = unlimited) -> None:
        self._client = client
        self._left_s = left_s

    def stat(self, bucket: str, name: str, generation: int | None = None) -> ObjectInfo | None:
        """Describe the live object, or that generation of it; None when there is none."""
        try:
            with _translated(f"look at gs://{bucket}/{name}"):
                blob = self._client.bucket(bucket).blob(name, generation=generation)
                blob.reload(**self._patience())
        except NotFound:
            return None
        return _info(blob)

    def stat_all(self, bucket: str, names: Sequence[str]) -> dict[str, ObjectInfo]:
        """Describe those of the named objects that are live, in one request for every hundred names."""
        found: dict[str, ObjectInfo] = {}
        for first in range(0, len(names), MAX_CALLS):
            some = names[first : first + MAX_CALLS]
            with _translated(f"look at gs://{bucket}/{some[0]} and others", missing_bucket=True):
                blobs = stat_batch(self._client.bucket(bucket), some, **self._patience())
            found |= {blob.name: _info(blob) for blob in blobs}
        return found

    def read(self, bucket: str, name: str, generation: int, at_most: int | None = None) -> bytes:
        """Return the bytes of exactly that generation; NotFound when it is no longer there.

        ObjectRefused when Cloud Storage has an answer, but not for this object, or not for us.
        Of what is stored with `Content-Encoding: gzip` the content, but no more than one byte over `at_most`: a
        thousandth of its size may be stored.
        """
        with _translated(f"read gs://{bucket}/{name}", one_object=True):
            blob = self._client.bucket(bucket).blob(name, generation=generation)
            data: bytes = blob.download_as_bytes(raw_download=True, **self._patience())
        return _unpacked(data, at_most) if blob.content_encoding == "gzip" else data

    def list_range(
        self, bucket: str, prefix: str, *, start: str, limit: int, end: str | None = None
    ) -> list[ObjectInfo]:
        """Describe the first `limit` live objects under `prefix` from the name `start` on, up to before `end`."""
        found = self.scan(bucket, prefix, start_offset=start or None, end_offset=end, page_size=limit)
        return [*islice(found, limit)]

    def list(self, bucket: str, prefix: str, delimiter: str | None = None) -> list[ObjectInfo]:
        """Describe every live object whose name begins with `prefix` and has no `delimiter` after it."""
        return [*self.scan(bucket, prefix, delimiter=delimiter)]

    def scan(self, bucket: str, prefix: str, **bounds: Any) -> Iterator[ObjectInfo]:
        """As `list`, in the order of the names' UTF-8, a page of a thousand at a time as they are asked for.

        Each page is a call of its own, so that a long list ends with the time. `bounds`: as `Client.list_blobs` takes
        them, but for those that count over pages.
        """
        token: str | None = None
        with _translated(f"list gs://{bucket}/{prefix}", missing_bucket=True):
            while token != "":
                blobs = self._client.list_blobs(
                    bucket, prefix=prefix, fields=_FIELDS, page_token=token, **bounds, **self._patience()
                )
                for blob in next(blobs.pages, ()):
                    yield _info(blob)
                token = blobs.next_page_token or ""

    def write_json(
        self, bucket: str, name: str, document: bytes, *, if_generation: int, metadata: Mapping[str, str]
    ) -> int:
        """Write a JSON document, as `write` does."""
        return self.write(bucket, name, document, "application/json", if_generation=if_generation, metadata=metadata)

    def write(
        self,
        bucket: str,
        name: str,
        data: bytes,
        content_type: str,
        *,
        if_generation: int,
        metadata: Mapping[str, str],
    ) -> int:
        """Write over exactly that generation (0: only a new object) and return the new one, else PreconditionFailed."""
        with _translated(f"write gs://{bucket}/{name}", missing_bucket=True):
            blob = self._client.bucket(bucket).blob(name)
            blob.metadata = dict(metadata)
            blob.upload_from_string(
                data,
                content_type=content_type,
                if_generation_match=if_generation,
                **self._patience(),
            )
        return int(blob.generation)

    def delete(self, bucket: str, name: str, generation: int) -> bool:
        """Delete exactly that generation and say whether it is gone; one that is newer is left as it is: False."""
        try:
            with _translated(f"delete gs://{bucket}/{name}"):
                self._client.bucket(bucket).blob(name).delete(if_generation_match=generation, **self._patience())
        except NotFound:
            return True
        except PreconditionFailed:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _patience(self) -> dict[str, Any]:
        """Timeouts of one call: the last attempt begins in the first half of what is left and ends in the second."""
        left_s = self._left_s()
        if left_s <= 0:
            raise DeadlineExceeded("no time is left")
        timeout_s = min(_CONNECT_S, left_s / 8), min(_READ_S, left_s / 4)
        return {"timeout": timeout_s, "retry": DEFAULT_RETRY.with_timeout(min(_RETRY_S, left_s / 2))}


def open_client(connections: int) -> storage.Client:
    """A client with the ambient credentials that keeps up to so many connections for its threads."""
    # Else it asks for the bucket, which needs one more grant, at the first use and after every 404, even untraced.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    client = storage.Client()
    adapter = HTTPAdapter(pool_maxsize=connections)
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, adapter)
    return client


def connect(connections: int, left_s: Callable[[], float] = unlimited) -> ObjectStore:
    """Open a store on a client for so many threads."""
    return ObjectStore(open_client(connections), left_s)


class _Described(Protocol):
    name: str
    generation: Any
    size: Any
    content_type: str | None
    crc32c: str | None
    metadata: Mapping[str, str] | None


def _info(blob: _Described) -> ObjectInfo:
    return ObjectInfo(
        name=blob.name,
        generation=int(blob.generation),
        size=int(blob.size or 0),
        content_type=blob.content_type,
        crc32c=blob.crc32c,
        metadata=blob.metadata or {},
    )


def _unpacked(data: bytes, at_most: int | None) -> bytes:
    """Data that only says that it is packed is taken as it is."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(-1 if at_most is None else at_most + 1)
    except (OSError, EOFError, zlib.error):
        return data


@contextmanager
def _translated(action: str, *, missing_bucket: bool = False, one_object: bool = False) -> Iterator[None]:
    """Turn Google's exceptions into ours.

    With `missing_bucket` a 404 means a broken setup, not an absent object; with `one_object` a refusal may be of that.
    """
    try:
        yield
    except api.NotFound as error:
        if missing_bucket:
            raise CloudUnavailable(f"cannot {action}: there is no such bucket") from error
        raise NotFound(f"cannot {action}: it does not exist") from error
    except api.PreconditionFailed as error:
        raise PreconditionFailed(f"cannot {action}: it has changed meanwhile") from error
    except _TROUBLE as error:
        kind = ObjectRefused if one_object and _is_refusal(error) else CloudUnavailable
        raise kind(f"cannot {action}: {_reason(error)}") from error


def _is_refusal(error: Exception) -> bool:
    """Whether what is asked for is refused: not who asks (401), nor that it is asked now (408, 429)."""
    return isinstance(error, api.ClientError) and error.code not in (401, 408, 429)


def _reason(error: Exception) -> str:
    """The class and status only: the text may quote tokens or signed addresses."""
    status = getattr(error, "code", None)
    return f"{type(error).__name__} {int(status)}" if isinstance(status, int) else type(error).__name__
