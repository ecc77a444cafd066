from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import requests
from PIL import Image, ImageDraw

from tests.collector import Collector

START_TIMEOUT_S = 200


class ServiceProcess:
    """The deployed service, gunicorn and all, with the embedded model, on a free port.

    Or another program of Python: `{port}` in its arguments becomes that port.
    """

    def __init__(self, log: Path, environment: Mapping[str, str], arguments: Sequence[str] = ("-m", "service")) -> None:
        self.log = log
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {
            name: value for name, value in os.environ.items() if not name.endswith(("_HOST", "_TOPIC", "_BUCKETS"))
        }
        # One thread: two that wait for each other on a busy machine are many times slower on a model this small.
        base = {"SAM3_MODEL": "embedded", "SAM3_DEVICE": "cpu", "TORCH_NUM_THREADS": "1", "PORT": str(self.port)}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *(argument.format(port=self.port) for argument in arguments)],
                env=clean | base | dict(environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.kill()

    def kill(self) -> None:
        """kill -9 to all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM, as a platform sends it before it takes the instance away."""
        self._process.terminate()

    def wait(self) -> int:
        """The exit status."""
        return self._process.wait(START_TIMEOUT_S)

    def check(self) -> None:
        assert self._process.poll() is None, self.output()

    def wait_until_ready(self) -> ServiceProcess:
        wait_until(self._ready, START_TIMEOUT_S, self.output)
        return self

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def _ready(self) -> bool:
        self.check()
        try:
            return requests.get(f"{self.url}/ready", timeout=30).ok
        except requests.RequestException:  # not listening yet, or starved
            return False


def wait_until(done: Callable[[], bool], timeout_s: float, explain: Callable[[], str] = lambda: "") -> None:
    until = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until, f"not done within {timeout_s} s\n{explain()}"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drawing(width: int = 96, height: int = 80, *, shift: int = 0, kind: str = "PNG") -> bytes:
    """A red square and a blue circle on grey."""
    image = Image.new("RGB", (width, height), (128, 128, 128))
    pencil = ImageDraw.Draw(image)
    pencil.rectangle((8 + shift, 10, 32 + shift, 34), fill=(215, 35, 35))
    pencil.ellipse((40 + shift, 30, 68 + shift, 58), fill=(40, 80, 220))
    return encoded(image, kind)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServiceProcess]]:
    """Start services; all are stopped at the end of the session."""
    with contextlib.ExitStack() as stack:

        def start(environment: Mapping[str, str] = {}, arguments: Sequence[str] = ("-m", "service")) -> ServiceProcess:
            log = tmp_path_factory.mktemp("service") / "log.txt"
            return stack.enter_context(ServiceProcess(log, environment, arguments))

        yield start


@pytest.fixture(scope="session")
def service(start_service: Callable[..., ServiceProcess]) -> ServiceProcess:
    """A service with the direct door only."""
    return start_service().wait_until_ready()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Gets what services send by OTLP over HTTP."""
    with contextlib.closing(Collector()) as collector:
        yield collector


@pytest.fixture(scope="session")
def draw() -> Callable[..., bytes]:
    return drawing


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Poll a condition until it holds; fails after the timeout."""
    return wait_until
