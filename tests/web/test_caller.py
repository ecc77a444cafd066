from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from service.web.caller import has_gone


def test_a_caller_is_there_until_it_closes() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        gone = has_gone({"gunicorn.socket": ours})
        assert not gone()
        theirs.sendall(b"GET / HTTP/1.1")  # a next request on the same connection is left for the server to read
        assert not gone()
        assert ours.recv(100) == b"GET / HTTP/1.1"
        theirs.close()
        assert gone()


def test_a_reset_connection_is_gone() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()
    assert has_gone({"gunicorn.socket": ours})()


def test_without_gunicorn_nobody_is_ever_gone() -> None:
    assert not has_gone({})()


def test_what_a_caller_has_left_is_dropped(service: Any, draw: Callable[..., bytes], eventually: Any) -> None:
    parts: list[tuple[str, Any]] = [("image", ("a.png", draw(1000, 1000)))]
    parts += [("prompts", (None, f"thing {n}")) for n in range(64)]

    def ask_and_leave(_: int) -> None:
        with pytest.raises(requests.Timeout):
            requests.post(f"{service.url}/segment", files=parts, timeout=(10, 0.1))

    with ThreadPoolExecutor(8) as threads:  # each waits for those before it, much longer than it takes to notice
        list(threads.map(ask_and_leave, range(8)))
    eventually(lambda: '"caller_gone"' in service.output(), 60, service.output)
    places = 'sam3_queue_depth{kind="people"} 0.0'
    eventually(lambda: places in requests.get(f"{service.url}/metrics", timeout=30).text, 60, service.output)
    assert requests.get(f"{service.url}/ready", timeout=30).ok
