"""An OpenTelemetry collector, as far as a test needs one."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.serving import serving


class Collector:
    """An OTLP receiver: https://opentelemetry.io/docs/specs/otlp/#otlphttp-request."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._open = ExitStack()
        self.url = self._open.enter_context(serving(Handler))

    def close(self) -> None:
        self._open.close()

    @property
    def spans(self) -> list[Any]:
        scopes = (scope for each in self.requests for found in each.resource_spans for scope in found.scope_spans)
        return [span for scope in scopes for span in scope.spans]

    @property
    def service_names(self) -> set[str]:
        resources = (found.resource for each in self.requests for found in each.resource_spans)
        return {a.value.string_value for r in resources for a in r.attributes if a.key == "service.name"}
