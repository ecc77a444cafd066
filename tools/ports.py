"""Ports for servers that are told theirs."""

from __future__ import annotations

import socket


def free_port(port: int = 0) -> int:
    """A loopback port that was free a moment ago: `port`, or any; OSError if `port` is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
