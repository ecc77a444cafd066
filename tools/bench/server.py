"""Servers as ordinary processes, timed from the moment they are started."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.__main__ import PROCESS
from service.settings import Settings
from tools.bench.cell import ROOT
from tools.process import free_port, stop

SERVICE = ("-m", "service")
BASELINE = ("-m", "tools.bench.baseline_server")
STAGED = ("-m", "gunicorn", "-c", "python:service.gunicorn_conf", "tools.bench.staged:create_app()")
_POLL_S = 0.01
_GRACE_S = 20


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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], log_file: Path, timeout_s: float = 900
) -> Iterator[Server]:
    """Run `python COMMAND` as the service runs, with PORT set, until the block ends.

    RuntimeError if it is not ready in time.
    """
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    with log_file.open("wb") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=clean | PROCESS | {"PORT": str(port), "LOG_LEVEL": "ERROR"} | dict(environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(process, port, start + timeout_s, log_file)
        yield Server(port, process.pid, time.perf_counter() - start)
    finally:
        stop(process, _GRACE_S)


def _wait(process: subprocess.Popen[bytes], port: int, until: float, log_file: Path) -> None:
    while not _ready(port):
        if process.poll() is not None or time.perf_counter() > until:
            tail = log_file.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server is not ready (status {process.poll()}):\n{tail}")
        time.sleep(_POLL_S)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False  # nothing listens yet
    finally:
        connection.close()
