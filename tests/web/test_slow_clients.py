"""Slow and vanished clients against the real server, which has fewer threads than there are of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

SLOW = 20
THREADS = 4


@pytest.fixture(scope="module")
def service(start_service: Callable[..., Any]) -> Any:
    return start_service({"WEB_THREADS": str(THREADS), "READ_TIMEOUT_S": "1"}).wait_until_ready()


@pytest.fixture
def connect(service: Any) -> Iterator[Callable[[bytes], socket.socket]]:
    """Open a connection and send the beginning of a request."""
    with ExitStack() as stack:

        def connect(beginning: bytes) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
            connection.sendall(beginning)
            return connection

        yield connect


def head(length: int, *lines: str) -> bytes:
    fields = ["POST /segment HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=b", *lines]
    return "\r\n".join([*fields, f"Content-Length: {length}", "", ""]).encode()


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def check_others(service: Any, draw: Callable[..., bytes], patience_s: float = 60) -> None:
    for _ in range(THREADS):
        assert requests.get(f"{service.url}/health", timeout=patience_s).ok
    answer = requests.post(f"{service.url}/segment", files={"image": draw()}, data={"prompts": "square"}, timeout=60)
    assert answer.ok, answer.text


BEGINNINGS = {
    "a byte": b"P",
    "half a head": b"POST /segment HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "no body": head(1000),
    "half a body": head(1_000_000) + b"--b\r\n" + b"x" * 10_000,
    "half a chunk": head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"ff\r\n--b",
    "half an event": head(1000).replace(b"/segment", b"/events") + b'{"message"',
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_slow_clients_do_not_stop_others(
    service: Any, connect: Callable[[bytes], socket.socket], draw: Callable[..., bytes], beginning: bytes
) -> None:
    slow = [connect(beginning) for _ in range(SLOW)]
    check_others(service, draw)
    answers = [everything(connection) for connection in slow]
    told = beginning.count(b"\r\n\r\n") and b"/segment" in beginning
    for answer in answers:
        assert (b"HTTP/1.1 408" in answer and b'"request_timeout"' in answer) == bool(told), answer


def test_a_client_that_trickles_is_no_better(
    service: Any, connect: Callable[[bytes], socket.socket], eventually: Callable[..., None]
) -> None:
    connection = connect(head(10_000_000))
    connection.settimeout(0.05)
    received = []

    def told() -> bool:
        try:
            connection.sendall(b"x")
            received.append(connection.recv(65536))
        except TimeoutError:
            return False
        return True

    eventually(told, 60)
    assert b"HTTP/1.1 408" in received[0]


def test_a_client_that_does_not_take_its_answer(
    service: Any, connect: Callable[[bytes], socket.socket], draw: Callable[..., bytes]
) -> None:
    """Many requests on one connection whose answers are never read: the pipe fills up."""
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(SLOW):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(0.2)
            connection.connect(("127.0.0.1", service.port))
            try:
                for _ in range(2000):
                    connection.sendall(request)
            except (TimeoutError, ConnectionError):
                pass
        check_others(service, draw)


def test_a_connection_that_is_left_open_after_its_last_answer(
    service: Any, connect: Callable[[bytes], socket.socket], draw: Callable[..., bytes]
) -> None:
    """gunicorn alone waits in its main loop for 2 s for each of them, and meanwhile for nobody else."""
    request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for connection in [connect(request) for _ in range(SLOW)]:
        assert b"HTTP/1.1 200" in connection.recv(65536)
    check_others(service, draw, patience_s=2 * SLOW / 2)


def test_clients_that_vanish_in_the_middle(
    service: Any, connect: Callable[[bytes], socket.socket], draw: Callable[..., bytes]
) -> None:
    for beginning in BEGINNINGS.values():
        for _ in range(SLOW):
            connect(beginning).close()
    check_others(service, draw)
    service.check()
    assert "Traceback" not in service.output()


def test_a_slow_but_steady_upload_is_taken(service: Any, draw: Callable[..., bytes], eventually: Any) -> None:
    """It takes longer than the head may, but never falls behind."""
    picture = draw(700, 700)

    def pieces() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="prompts"\r\n\r\nsquare\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + picture + b"\r\n--b--\r\n"
        pause = socket.socketpair()
        pause[0].settimeout(0.4)
        for _ in range(4):  # what follows the last boundary is no part of the form, but of the body
            with pytest.raises(TimeoutError):
                pause[0].recv(1)
            yield b"\n" * 64 * 1024
        for end in pause:
            end.close()

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = requests.post(f"{service.url}/segment", data=pieces(), headers=headers, timeout=60)
    assert answer.ok, answer.text
