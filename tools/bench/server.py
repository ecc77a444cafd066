"""Servers as ordinary processes, timed from the moment they are started."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from service.__main__ import PROCESS
from tools.process import running_service

SERVICE = ("-m", "service")
BASELINE = ("-m", "tools.bench.baseline_server")
_POLL_S = 0.01


@dataclass(frozen=True)
class Server:
    """A server on a loopback `port` that was ready `ready_s` after its start."""

    port: int
    pid: int
    ready_s: float

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def get_json(self, path: str) -> Any:
        """The JSON document at `path`."""
        with urllib3.PoolManager() as http:
            return http.request("GET", f"{self.url}{path}", retries=False, timeout=60).json()


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], log_file: Path) -> Iterator[Server]:
    """Run `python COMMAND` as the service runs, with PORT set, until the block ends.

    RuntimeError if it does not become ready.
    """
    given = PROCESS | {"LOG_LEVEL": "ERROR"} | dict(environment)
    start = time.perf_counter()
    with running_service(given, log_file=log_file, command=[sys.executable, *command], poll_s=_POLL_S) as running:
        yield Server(running.port, running.process.pid, time.perf_counter() - start)
