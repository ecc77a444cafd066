"""The proxy that the environment names is the way to the service."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest
import urllib3

from sam3_client import Backoff, Forbidden, Sam3Client, Unreachable
from sam3_client.transport import Transport
from tests.client.conftest import Script
from tests.serving import serving

ONCE = Backoff(attempts=1)


@dataclass
class Proxy:
    """What it was asked for, `METHOD target`, and by whom. It makes no tunnels."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    callers: set[str | None] = field(default_factory=set)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        def parse_request(self) -> bool:
            good = super().parse_request()
            proxy.asked.append(f"{self.command} {self.path}")
            proxy.callers.add(self.headers.get("Proxy-Authorization"))
            return good

        def do_GET(self) -> None:
            with urllib3.PoolManager() as direct:
                answer = direct.request("GET", self.path, retries=False)
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.data)

        def do_CONNECT(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as proxy.url:
        yield proxy


def test_plain_requests_pass_through_it(script: Script, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    script.answers = [(200, {}, b""), (403, {}, b"")]
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://me:a%20b@"))
    with Sam3Client(script.url) as client:
        assert client.ready()
        with pytest.raises(Forbidden):
            client.ready()
    assert proxy.asked == [f"GET {script.url}/ready"] * 2
    assert proxy.callers == {f"Basic {b64encode(b'me:a b').decode()}"}


def test_a_proxy_without_a_scheme(script: Script, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    script.answers = [(200, {}, b"")]
    monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
    with Sam3Client(script.url) as client:
        assert client.ready()
    assert len(proxy.asked) == 1


def test_tls_is_asked_for_as_a_tunnel(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with Sam3Client("https://sam3.example", backoff=ONCE) as client, pytest.raises(Unreachable, match="403"):
        client.segment(b"x", "cat")
    assert proxy.asked == ["CONNECT sam3.example:443"]


def test_what_needs_no_proxy(script: Script, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    script.answers = [(200, {}, b"")]
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    with Sam3Client(script.url) as client:
        assert client.ready()
    assert proxy.asked == []


def test_a_proxy_that_is_not_there_is_tried_again(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    waits: list[float] = []
    transport = Transport(script.url, 30, Backoff(attempts=3), waits.append)
    with Sam3Client("", transport=transport) as client, pytest.raises(Unreachable):
        client.segment(b"x", "cat")
    assert len(waits) == 2
