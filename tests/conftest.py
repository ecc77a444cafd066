from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from PIL import Image, ImageDraw

from tests.collector import Collector
from tools import process
from tools.ports import free_port

START_TIMEOUT_S = 200


class ServiceProcess(process.ServiceProcess):
    """The deployed service, gunicorn and all, with the embedded model, started on a free port.

    Or another program of Python: `{port}` in its arguments becomes that port.
    """

    def __init__(self, log: Path, environment: Mapping[str, str], arguments: Sequence[str] = ("-m", "service")) -> None:
        port = free_port()
        # One thread: two that wait for each other on a busy machine are many times slower on a model this small.
        base = {"SAM3_MODEL": "embedded", "SAM3_DEVICE": "cpu", "TORCH_NUM_THREADS": "1"}
        command = [sys.executable, *(argument.format(port=port) for argument in arguments)]
        super().__init__(base | dict(environment), log, command, port)
        self.start()

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> int:
        return super().wait(timeout_s)

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S, **options: Any) -> Self:
        return super().wait_until_ready(timeout_s, **options)


def wait_until(done: Callable[[], bool], timeout_s: float, explain: Callable[[], str] = lambda: "") -> None:
    until = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until, f"not done within {timeout_s} s\n{explain()}"
        time.sleep(0.05)


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
