"""The emulator's own HTTP interface: health, statistics and the certificates of its OIDC tokens."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tools.localcloud.pubsub.broker import Broker

CERTS_PATH = "/oauth2/v1/certs"
STATS_PATH = "/stats"
HEALTH_PATH = "/health"

STOP_POLL_S = 0.05


def admin_server(broker: Broker, host: str, port: int) -> ThreadingHTTPServer:
    """A started server; its `server_port` tells the port (a free one where `port` is 0)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer one of the three documents."""
            document = _document(broker, self.path)
            body = json.dumps(document or {"error": "no such page"}).encode()
            self.send_response(200 if document is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet: tests ask for statistics many times a second."""

    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, args=(STOP_POLL_S,), name="admin", daemon=True).start()
    return server


def _document(broker: Broker, path: str) -> dict[str, object] | None:
    if path == HEALTH_PATH:
        return {"status": "ok"}
    if path == STATS_PATH:
        return {held.config.name: held.queue.stats() for held in broker.subscriptions()}
    if path == CERTS_PATH:
        return dict(broker.tokens.certificates)
    return None
