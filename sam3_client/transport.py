"""POSTs that come again when the service is busy: one pool of connections, bounded waits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ProtocolError,
    ProxyError,
)

from sam3_client.errors import Problem, Unreachable, problem
from sam3_client.pool import pool_for

_CONNECT_S = 10
_NO_ANSWER = (NewConnectionError, ConnectTimeoutError, ProtocolError, ConnectionError)


@dataclass(frozen=True)
class Backoff:
    """At most `attempts` tries. Waits double from `first_s`, with jitter; Retry-After counts where it is longer.

    No wait is over `most_s`: where the service asks for a longer one, its answer is the error, at once. No try begins
    `total_s` after the first one or later, so that a call takes about that and one timeout at most. The service gives a
    request 300 s itself: what it has then given up is not handed to it again.
    """

    attempts: int = 6
    first_s: float = 0.5
    most_s: float = 60
    total_s: float = 300

    def wait_s(self, tries: int, elapsed_s: float, retry_after_s: float | None) -> float | None:
        """Seconds to wait after the `tries`th try, which has ended `elapsed_s` after the first began; None to end."""
        if tries >= self.attempts or (retry_after_s or 0) > self.most_s:
            return None
        own_s = min(self.most_s, self.first_s * 2.0 ** (tries - 1)) * random.uniform(0.5, 1)
        wait_s = max(own_s, retry_after_s or 0)
        return wait_s if elapsed_s + wait_s < self.total_s else None


class Transport:
    """Sends requests to one service. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        backoff: Backoff,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._pool = pool_for(url, urllib3.Timeout(connect=_CONNECT_S, read=timeout_s))
        self._backoff = backoff
        self._sleep = sleep
        self._clock = clock

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def available(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a GET is answered 200, and not 503. Raises the Problem that any other answer is, or Unreachable."""
        answer = self._send("GET", path, b"", headers)
        if answer.status not in (200, 503):
            raise _problem(answer)
        return answer.status == 200

    def post(self, path: str, body: bytes, headers: Callable[[], Mapping[str, str]]) -> bytes:
        """The body of a 200. Raises the Problem that any other answer is, or Unreachable.

        Segmenting changes nothing, so that it is tried again where the answer says that it may succeed later, and where
        no connection came about or it broke before the whole answer was there: a server may close an idle one just as a
        request is sent. `headers` are asked for before each try.
        """
        began, tries = self._clock(), 0
        while True:
            tries += 1
            try:
                answer = self._send("POST", path, body, headers())
                if answer.status == 200:
                    return answer.data
                raise _problem(answer)
            except (Problem, Unreachable) as error:
                wait_s = self._wait_s(tries, self._clock() - began, error)
                if wait_s is None:
                    raise
            self._sleep(wait_s)

    def _wait_s(self, tries: int, elapsed_s: float, error: Problem | Unreachable) -> float | None:
        if isinstance(error, Problem):
            return self._backoff.wait_s(tries, elapsed_s, error.retry_after_s) if error.retryable else None
        return self._backoff.wait_s(tries, elapsed_s, None) if _unanswered(error.__cause__) else None

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                method, self._url + path, body=body or None, headers=dict(headers), redirect=False
            )
        except HTTPError as error:
            raise Unreachable(f"{self._url}: {error}") from error


def _unanswered(error: BaseException | None) -> bool:
    """Whether there was no connection, or it broke. A timeout of reading is neither: the service may still work."""
    if isinstance(error, ProxyError):
        error = error.original_error
    return isinstance(error, _NO_ANSWER)


def _problem(answer: urllib3.BaseHTTPResponse) -> Problem:
    return problem(answer.status, answer.data, _retry_after_s(answer), answer.headers.get("X-Request-Id"))


def _retry_after_s(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds or a date (RFC 9110, 10.2.3); None without, or when it is neither."""
    try:
        value = answer.headers.get("Retry-After")
        return None if value is None else urllib3.Retry().parse_retry_after(value)
    except InvalidHeader:
        return None
