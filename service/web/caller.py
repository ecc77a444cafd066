"""Whether the caller of a request still listens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any


def has_gone(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A question to ask while working: has the caller closed its connection?

    Looks at gunicorn's socket without taking anything from it. A caller that only closes its sending half counts as
    gone too; HTTP clients do not do that while they wait for an answer. Other servers: always no.
    """
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        return lambda: False

    def gone() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    return gone
