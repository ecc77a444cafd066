"""Many questions to Cloud Storage in one request: https://cloud.google.com/storage/docs/batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import requests
from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.batch import Batch

MAX_CALLS = 100  # in one request, by that page
_PART = "Content-Type: application/http\n"


def stat_batch(
    bucket: storage.Bucket,
    names: Sequence[str],
    *,
    timeout: tuple[float, float],
    retry: Callable[[Callable[[], Any]], Callable[[], Any]],
) -> list[storage.Blob]:
    """Describe the live objects of these names, at most MAX_CALLS, leaving out those that are not there.

    Raises the client's exceptions when the request or one of its parts is answered otherwise.
    """

    def ask() -> list[storage.Blob]:
        blobs = [bucket.blob(name) for name in names]
        with _NumberedBatch(bucket.client, raise_exception=False) as batch:
            for blob in blobs:
                blob.reload(timeout=timeout)
        return [blob for blob, answer in zip(blobs, batch.answers, strict=True) if _is_there(answer)]

    found: list[storage.Blob] = retry(ask)()
    return found


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
        try:
            self.answers = super().finish(raise_exception)
        except GoogleAuthError:  # some are ValueErrors too
            raise
        except ValueError as error:
            raise api.BadGateway("the answer to a batch cannot be read") from error
        return self.answers


def _is_there(answer: requests.Response) -> bool:
    """Anything but 200 and 404 leaves it open, and is trouble."""
    if answer.status_code not in (200, 404):
        raise api.from_http_response(answer)
    return answer.status_code == 200
