"""The service as an ordinary process: started, waited for, stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.1


@dataclass(frozen=True)
class ServiceProcess:
    """A running service at `url`."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_service(
    environment: Mapping[str, str],
    *,
    log_file: Path,
    on_phase: Callable[[str], None] = lambda phase: None,
    timeout_s: float = 900,
    command: Sequence[str] = (sys.executable, "-m", "service"),
) -> Iterator[ServiceProcess]:
    """Run gunicorn with the service on a free loopback port until the block ends; RuntimeError when it dies early.

    `command` may be another way to start it; it gets the port as PORT.
    """
    port = free_port()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment, "PORT": str(port)}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        service = ServiceProcess(f"http://127.0.0.1:{port}", process)
        _wait_until_ready(service, log_file, on_phase, timeout_s)
        yield service
    finally:
        stop(process)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(
    service: ServiceProcess, log_file: Path, on_phase: Callable[[str], None], timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    seen = ""
    while (phase := _phase(service.url)) != "ready":
        if service.process.poll() is not None:
            tail = log_file.read_text(errors="replace").splitlines()[-15:]
            raise RuntimeError(f"the service ended with status {service.process.returncode}:\n" + "\n".join(tail))
        if time.monotonic() > deadline:
            raise RuntimeError(f"the service is not ready after {timeout_s:.0f} s (phase {phase!r}); see {log_file}")
        if phase and phase != seen:
            on_phase(phase)
            seen = phase
        time.sleep(_POLL_S)
    on_phase("ready")


def _phase(url: str) -> str:
    """The loading phase that /ready reports; empty while nothing listens."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5):
            return "ready"
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error).get("phase", "starting"))
    except (OSError, ValueError):
        return ""


def stop(process: subprocess.Popen[bytes], grace_s: float = 15) -> None:
    """SIGTERM, and SIGKILL to what has not ended within `grace_s`."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
