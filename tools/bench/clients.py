"""Clients of POST /segment in a process of their own, so that their work does not slow the bench's own thread."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from urllib3 import encode_multipart_formdata

from tools.bench.cell import answer

_TIMEOUT_S = 600
NO_ANSWER = 0
"""The status of a request whose connection broke."""


def multipart(image: bytes, fields: Mapping[str, str | Sequence[str]]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with the file `image` and text fields."""
    rows = [(name, value) for name, given in fields.items() for value in ([given] if isinstance(given, str) else given)]
    body, kind = encode_multipart_formdata([*rows, ("image", ("image", image))])
    return body, {"Content-Type": kind}


class Client:
    """One keep-alive connection to the server at `url`."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)

    def segment(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, float]:
        """Status, answer and seconds of one request."""
        start = time.perf_counter()
        self._connection.request("POST", "/segment", body, dict(headers))
        response = self._connection.getresponse()
        data = response.read()
        return response.status, data, time.perf_counter() - start

    def get_json(self, path: str) -> Any:
        """The JSON document at `path`."""
        self._connection.request("GET", path)
        return json.loads(self._connection.getresponse().read())


@dataclass
class _Run:
    """Requests handed out one by one, and what came back."""

    requests: Sequence[tuple[bytes, dict[str, str]]]
    until: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    handed_out: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def take(self) -> tuple[bytes, dict[str, str]] | None:
        """The next one; with a time limit they begin again until it is over."""
        with self.lock:
            index = self.handed_out
            over = time.perf_counter() > self.until if self.until else index >= len(self.requests)
            if over:
                return None
            self.handed_out += 1
            return self.requests[index % len(self.requests)]

    def work(self, url: str) -> None:
        """One client's life."""
        client = Client(url)
        while (request := self.take()) is not None:
            try:
                status, _, took = client.segment(*request)
            except (OSError, http.client.HTTPException):
                status, took, client = NO_ANSWER, 0.0, Client(url)
            with self.lock:
                self.statuses[status] += 1
                self.latencies.append(took)


def send(url: str, clients: int, requests: Sequence[Mapping[str, Any]], seconds: float = 0) -> dict[str, Any]:
    """Send requests ({"file": path, "fields": {…}}) from `clients` threads: all of them once, or for `seconds`."""
    built = [multipart(Path(request["file"]).read_bytes(), request["fields"]) for request in requests]
    start = time.perf_counter()
    run = _Run(built, start + seconds if seconds else 0)
    threads = [threading.Thread(target=run.work, args=(url,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - start
    return {"wall_s": wall_s, "latencies_s": run.latencies, "statuses": {str(k): n for k, n in run.statuses.items()}}


if __name__ == "__main__":
    answer(send)
