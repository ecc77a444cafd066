"""POSTs that come again when the service is busy: one pool of connections, bounded waits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InvalidHeader, NewConnectionError

from sam3_client.errors import Unreachable, problem

_AGAIN = (429, 503)
_CONNECT_S = 10


@dataclass(frozen=True)
class Backoff:
    """At most `attempts` tries. Waits double from `first_s`, with jitter; Retry-After counts where it is longer.

    No wait is over `most_s`: where the service asks for a longer one, its answer is the error, at once.
    """

    attempts: int = 6
    first_s: float = 0.5
    most_s: float = 60

    def wait_s(self, tries: int, retry_after_s: float | None) -> float | None:
        """Seconds to wait after the `tries`th try; None to give up."""
        if tries >= self.attempts or (retry_after_s or 0) > self.most_s:
            return None
        own_s = min(self.most_s, self.first_s * 2.0 ** (tries - 1)) * random.uniform(0.5, 1)
        return max(own_s, retry_after_s or 0)


class Transport:
    """Sends requests to one service. Safe to use from several threads."""

    def __init__(
        self, url: str, timeout_s: float, backoff: Backoff, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=16, retries=False, timeout=urllib3.Timeout(connect=_CONNECT_S, read=timeout_s)
        )
        self._backoff = backoff
        self._sleep = sleep

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def status(self, path: str, headers: Mapping[str, str]) -> int:
        """The status of a GET; Unreachable without an answer."""
        return self._send("GET", path, b"", headers).status

    def post(self, path: str, body: bytes, headers: Callable[[], Mapping[str, str]]) -> bytes:
        """The body of a 200. Segmenting changes nothing, so busy answers and refused connections are tried again.

        `headers` are asked for before each try. Raises the Problem that any other answer is, or Unreachable.
        """
        tries = 0
        while True:
            tries += 1
            try:
                answer = self._send("POST", path, body, headers())
            except Unreachable as error:
                refused = isinstance(error.__cause__, NewConnectionError | ConnectTimeoutError)
                wait_s = self._backoff.wait_s(tries, None) if refused else None
                if wait_s is None:
                    raise
            else:
                if answer.status == 200:
                    return answer.data
                retry_after_s = _retry_after_s(answer)
                error_ = problem(answer.status, answer.data, retry_after_s, answer.headers.get("X-Request-Id"))
                again = answer.status in _AGAIN and error_.retryable
                wait_s = self._backoff.wait_s(tries, retry_after_s) if again else None
                if wait_s is None:
                    raise error_
            self._sleep(wait_s)

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                method, self._url + path, body=body or None, headers=dict(headers), redirect=False
            )
        except HTTPError as error:
            raise Unreachable(f"{self._url}: {error}") from error


def _retry_after_s(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds or a date (RFC 9110, 10.2.3); None without, or when it is neither."""
    try:
        value = answer.headers.get("Retry-After")
        return None if value is None else urllib3.Retry().parse_retry_after(value)
    except InvalidHeader:
        return None
