"""gunicorn's threads in a world of slow clients: each client is waited for only so long.

gunicorn gives a connection a thread from the first byte of a request to the last of its answer, with no limit of its
own, and asks for a buffering proxy in front: https://docs.gunicorn.org/en/stable/deploy.html. There need not be one.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from service.errors import BadBody, SlowClient
from service.web.problems import INTERNAL, MEDIA_TYPE, problem_body, words

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Bytes a second that a body or an answer may not fall short of on average: a poor mobile connection has more.
SLOWEST = 64 * 1024
_LINGER_S = 1.0
# By the first kind that fits: what the app wants to send is our fault, the rest is the client's.
_UNREADABLE = {
    InvalidResponseHeader: (500, INTERNAL),
    InvalidResponseHeaderName: (500, INTERNAL),
    LimitRequestLine: (414, "the request's first line, with its address, is too long"),
    LimitRequestHeaders: (431, "the request's headers are too many or too long"),
    UnsupportedTransferCoding: (501, "Transfer-Encoding: only chunked is known"),
    ExpectationFailed: (417, "Expect: only 100-continue is known"),
    ParseException: (400, "the request is no HTTP/1.1"),
}


class Exchange:
    """One request on a connection, and until when its client is waited for. The work itself is not timed here."""

    def __init__(self, connection: socket.socket, patience_s: float) -> None:
        self._connection = connection
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._late = False
        self._waiting = True
        self._how = socket.SHUT_RD  # a client that sends too slowly can still be told so
        self._deadline = time.monotonic() + patience_s

    def work(self) -> None:
        """The head is there. From now on the client is waited for only while its body is read."""
        with self._lock:
            self._waiting = False
            self._deadline = time.monotonic() + self._patience_s

    def read(self, body: Any, size: int) -> bytes:
        """Read up to `size` bytes of the body; SlowClient when they, with all before them, took too long."""
        with self._lock:
            self._waiting = True
        data = b""
        try:
            data = body.read(size)
        except OSError:
            if not self._late:
                raise
        except ParseException as error:
            raise BadBody(f"the body's chunks cannot be read ({type(error).__name__})") from None
        with self._lock:
            self._waiting = False
            if self._late:
                raise SlowClient(
                    f"the body came slower than {SLOWEST} bytes a second, after {self._patience_s:g} s (READ_TIMEOUT_S)"
                )
            self._deadline += len(data) / SLOWEST
        return data

    def answer(self, size: int) -> None:
        """An answer of so many bytes is written from now on."""
        with self._lock:
            self._late, self._waiting, self._how = False, True, socket.SHUT_RDWR
            self._deadline = time.monotonic() + self._patience_s + size / SLOWEST

    @property
    def answered(self) -> bool:
        """Whether an answer has been begun."""
        return self._how == socket.SHUT_RDWR

    def end_if_late(self) -> None:
        """Let the thread that waits in vain go on: its client counts as gone."""
        with self._lock:
            if self._waiting and not self._late and time.monotonic() >= self._deadline:
                self._late = True
                with contextlib.suppress(OSError):
                    self._connection.shutdown(self._how)


class Body(io.RawIOBase):
    """`wsgi.input` with the patience of an exchange."""

    def __init__(self, body: Any, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """At most a second's worth at a time, so that what comes at the least pace is never late."""
        view = memoryview(buffer).cast("B")
        data = self._exchange.read(self._body, min(len(view), SLOWEST))
        view[: len(data)] = data
        return len(data)


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker of threads with an end to its patience; `patience_s` is for a head, and again for a body."""

    patience_s = 20.0
    wsgi: WSGIApplication

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._exchanges: dict[socket.socket, Exchange] = {}
        self._exchanges_lock = threading.Lock()

    def notify(self) -> None:
        """Called by the main loop once a second or more often."""
        super().notify()
        with self._exchanges_lock:
            for exchange in self._exchanges.values():
                exchange.end_if_late()

    def handle(self, conn: Any) -> Any:
        """Handle one request on a thread of its own."""
        connection = conn.sock
        with self._exchanges_lock:
            self._exchanges[connection] = Exchange(connection, self.patience_s)
        try:
            keep = super().handle(conn)
        finally:
            with self._exchanges_lock:
                del self._exchanges[connection]
        if not keep:
            _linger(connection)
        return keep

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what cannot be read as HTTP with a problem; unlike gunicorn's own, the log's line quotes nothing."""
        kinds = _UNREADABLE.items()
        status, detail = next((told for kind, told in kinds if isinstance(exc, kind)), (500, INTERNAL))
        if status != 500:
            self.log.info("%s: the request cannot be read", type(exc).__name__)
        else:
            self.log.error("a request has failed", exc_info=exc)
        exchange = self._exchanges.get(client)
        if exchange is None or not exchange.answered:
            with contextlib.suppress(OSError):
                client.sendall(_problem(status, detail))

    def load_wsgi(self) -> None:
        """Put the exchange between the app and its client."""
        super().load_wsgi()
        self.wsgi = self._patient(self.wsgi)

    def _patient(self, app: WSGIApplication) -> WSGIApplication:
        def patient(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            exchange = self._exchanges[environ["gunicorn.socket"]]
            exchange.work()
            environ["wsgi.input"] = Body(environ["wsgi.input"], exchange)

            def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
                exchange.answer(sum(lengths))
                return start_response(status, headers, *error)

            return app(environ, start)

        return patient


def _problem(status: int, detail: str) -> bytes:
    """A whole answer. It tells nothing of the request, which may hold anything."""
    body = problem_body(status, *words(status), detail, retryable=False)
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Connection: close",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", body]).encode("ascii")


def _linger(connection: socket.socket) -> None:
    """End a connection as RFC 9112, 9.6 asks for, here: gunicorn would wait for the client in its main loop."""
    until = time.monotonic() + _LINGER_S
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left_s := until - time.monotonic()) > 0:
            connection.settimeout(left_s)
            if not connection.recv(64 * 1024):
                break
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
