"""Many questions to Cloud Storage in one request: https://cloud.google.com/storage/docs/batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import requests
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.batch import Batch

MAX_CALLS = 100  # in one request, by that page
_PART = "Content-Type: application/http\n"


def stat_batch(
    bucket: storage.Bucket,
    names: Iterable[str],
    *,
    timeout: tuple[float, float],
    retry: Callable[[Callable[[], Any]], Callable[[], Any]],
) -> list[storage.Blob]:
    """Describe the live objects of these names, at most MAX_CALLS, leaving out those that are not there.

    Raises the client's exceptions when the request, or the answer to one of its parts, is neither.
    """
    blobs = [bucket.blob(name) for name in names]

    def ask() -> list[int]:
        with _NumberedBatch(bucket.client, raise_exception=False) as batch:
            for blob in blobs:
                blob.reload(timeout=timeout)
        return [_checked(answer) for answer in batch.answers]

    statuses = retry(ask)()
    return [blob for blob, status in zip(blobs, statuses, strict=True) if status == 200]


class _NumberedBatch(Batch):  # type: ignore[misc]
    """Numbers its parts: optional at Cloud Storage, but fake-gcs-server leaves out a part without Content-ID."""

    answers: list[requests.Response]

    def _prepare_batch_request(self) -> tuple[dict[str, str], str, Any]:
        headers, body, timeout = super()._prepare_batch_request()
        head, *parts = body.split(_PART)
        numbered = (f"{_PART}Content-ID: <{number}>\n{part}" for number, part in enumerate(parts))
        return headers, head + "".join(numbered), timeout

    def finish(self, raise_exception: bool = True) -> list[requests.Response]:
        """Send the request and keep its answers, in the order of the calls."""
        self.answers = super().finish(raise_exception)
        return self.answers


def _checked(answer: requests.Response) -> int:
    """200 or 404; anything else leaves open whether the object is there."""
    if answer.status_code not in (200, 404):
        raise api.from_http_response(answer)
    return answer.status_code
