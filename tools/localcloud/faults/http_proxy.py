"""A reverse proxy for HTTP/1.1: one connection onwards for each that comes in, bodies as they are."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

from tools.localcloud.faults.calls import ANSWERED, ARRIVES, Call, Cut, Script

HOST = "127.0.0.1"
_TIMEOUT_S = 700  # longer than an ack deadline may be
_POLL_S = 0.05
_OWN_HEADERS = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})

# https://cloud.google.com/storage/docs/json_api/v1/status-codes, as the JSON API words it.
_REASONS = {
    400: (
        "resourceIsEncryptedWithCustomerEncryptionKey",
        "The target object is encrypted by a customer-supplied encryption key.",
    ),
    401: ("authError", "Invalid Credentials"),
    403: ("forbidden", "The account does not have access to it."),
    412: ("conditionNotMet", "At least one of the pre-conditions you specified did not hold."),
    503: ("backendError", "We encountered an internal error. Please try again."),
}


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    headers: Message[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Onwards = Callable[[Request], Answer | None]
"""Asks the target; None when it does not answer."""


def refusal(status: int) -> Answer:
    """The answer of the JSON API with that status: 401, 403, 412 or 503."""
    reason, message = _REASONS[status]
    errors = [{"message": message, "domain": "global", "reason": reason}]
    body = json.dumps({"error": {"code": status, "message": message, "errors": errors}}).encode()
    return Answer(status, (("Content-Type", "application/json; charset=UTF-8"),), body)


_LOST = refusal(503)


def _nothing(request: Request, onwards: Onwards) -> None:
    """No condition."""


class HttpProxy:
    """Passes requests on to `target` ("address:port", may change), from `start` until `close`.

    What `unmet` answers, for a condition of the request that the target would not look at, is the target's answer.
    """

    def __init__(
        self,
        target: str,
        classify: Callable[[Request], Call],
        script: Script,
        unmet: Callable[[Request, Onwards], Answer | None] = _nothing,
    ) -> None:
        self.target = target
        self._server = _Server((HOST, 0), _handler(self))
        self._classify = classify
        self._script = script
        self._unmet = unmet
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._server.server_port}"

    def point_to(self, url: str) -> None:
        """Pass on to the server at `url` from now on."""
        self.target = urlsplit(url).netloc

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Take no more connections; what is under way runs on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request, onwards: Onwards) -> Answer:
        """What the caller gets, 503 as from a front end when the target does not answer; Cut when that is nothing."""
        call = self._classify(request)
        self._script.arrives(call)
        refused = self._script.refuses(call)
        if refused is not None:
            return refusal(refused)
        lost = self._script.loses(call)
        if lost == ARRIVES:
            return _LOST
        found = self._unmet(request, onwards) or onwards(request)
        if found is None:
            return _LOST
        self._script.answered(call)
        return _LOST if lost == ANSWERED else found


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


def _handler(proxy: HttpProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        owner = proxy

    return Handler


class _Handler(BaseHTTPRequestHandler):
    """One connection that came in; its thread owns one connection onwards."""

    owner: ClassVar[HttpProxy]
    protocol_version = "HTTP/1.1"
    # The head and the body are two writes: with Nagle's algorithm the second waits for the peer's delayed ACK.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """No connection onwards yet."""
        super().setup()
        self._onwards: http.client.HTTPConnection | None = None
        self._target = ""

    def finish(self) -> None:
        """Close both."""
        self._hang_up()
        super().finish()

    def handle(self) -> None:
        """A caller that is gone (killed) is nobody's error."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            answer = self.owner.answer(Request(self.command, self.path, self.headers, body), self._ask)
        except Cut:
            self.close_connection = True
            return
        self._reply(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

    def _ask(self, request: Request) -> Answer | None:
        """The target's answer; None when there is none."""
        try:
            return self._exchange(request)
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return None

    def _exchange(self, request: Request) -> Answer:
        if self._onwards is None or self._target != self.owner.target:
            self._hang_up()
            self._target = self.owner.target
            self._onwards = http.client.HTTPConnection(self._target, timeout=_TIMEOUT_S)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS}
        self._onwards.request(request.method, request.path, request.body or None, headers)
        response = self._onwards.getresponse()
        body = response.read()
        kept = tuple((name, value) for name, value in response.getheaders() if name.lower() not in _OWN_HEADERS)
        return Answer(response.status, kept, body)

    def _reply(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _hang_up(self) -> None:
        if self._onwards is not None:
            self._onwards.close()
        self._onwards = None

    def log_message(self, *_: object) -> None:
        """Stay quiet."""
