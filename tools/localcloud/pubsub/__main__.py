"""`python -m tools.localcloud.pubsub`: run the emulator until SIGTERM or Ctrl-C."""

import argparse
import json
import logging
import signal
import sys
import threading
from pathlib import Path

from tools.localcloud.pubsub.admin import admin_server
from tools.localcloud.pubsub.broker import Broker, BrokerOptions
from tools.localcloud.pubsub.duplicates import duplicate_rate
from tools.localcloud.pubsub.server import grpc_server


def main() -> int:
    """Serve, tell the ports, and stop on a signal."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    broker = Broker(BrokerOptions(arguments.push_concurrency, arguments.duplicate_rate, arguments.duplicate_seed))
    admin = admin_server(broker, arguments.host, arguments.admin_port)
    server, port = grpc_server(broker, arguments.host, arguments.port)
    _announce(arguments.host, port, admin.server_port, arguments.ready_file)
    stop.wait()
    server.stop(grace=0)
    admin.shutdown()
    admin.server_close()
    broker.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.localcloud.pubsub", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="gRPC port (default: a free one)")
    parser.add_argument("--admin-port", type=int, default=0, help="HTTP port (default: a free one)")
    parser.add_argument("--ready-file", type=Path, help="write the addresses there, as JSON, once serving")
    parser.add_argument("--push-concurrency", type=int, default=32, help="most pushes at once, a subscription")
    parser.add_argument(
        "--duplicate-rate", type=duplicate_rate, default=0.0, help="share of messages delivered again although acked"
    )
    parser.add_argument("--duplicate-seed", type=int, default=0, help="chooses which messages")
    parser.add_argument("--verbose", action="store_true", help="log every push")
    return parser


def _announce(host: str, port: int, admin_port: int, ready_file: Path | None) -> None:
    addresses = {"pubsub": f"{host}:{port}", "admin": f"http://{host}:{admin_port}"}
    print(json.dumps(addresses), flush=True)
    if ready_file is not None:
        # Renamed into place: whoever waits for the file never reads half of it.
        unfinished = ready_file.with_suffix(".part")
        unfinished.write_text(json.dumps(addresses))
        unfinished.rename(ready_file)


if __name__ == "__main__":
    sys.exit(main())
