"""OpenTelemetry spans of requests, events and their stages; only for who has asked for them.

Importing this module imports OpenTelemetry.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from service.core.context import Trace
from service.core.observe import Observer, Stage

_NS = 1_000_000_000


class Tracing(Observer):
    """Makes a span of each request or event, and within it one of each stage.

    The provider is not made the process's own, so that Google's clients do not add theirs.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("sam3-service")

    @contextmanager
    def span(self, name: str, parent: Trace | None) -> Iterator[Trace | None]:
        """A span around the block, within the caller's trace; yields where log lines belong now."""
        with self._tracer.start_as_current_span(
            name, _context(parent), trace.SpanKind.SERVER, record_exception=False
        ) as span:
            here = span.get_span_context()
            yield Trace(
                trace.format_trace_id(here.trace_id), trace.format_span_id(here.span_id), here.trace_flags.sampled
            )

    def stage(self, name: Stage, began: float, seconds: float) -> None:
        """A span of the stage, which is over; none outside of a request or event."""
        if not trace.get_current_span().is_recording():
            return
        start = time.time_ns() - round((time.monotonic() - began) * _NS)
        self._tracer.start_span(name, start_time=start).end(start + round(seconds * _NS))

    def found(self, instances: int) -> None:
        """An attribute of the request's span."""
        trace.get_current_span().set_attribute("sam3.instances", instances)

    def event(self, outcome: str) -> None:
        """An attribute of the event's span."""
        trace.get_current_span().set_attribute("sam3.outcome", outcome)

    def answered(self, door: str, status: int, seconds: float) -> None:
        """The status, and whether the fault is ours: https://opentelemetry.io/docs/specs/semconv/http/http-spans/."""
        span = trace.get_current_span()
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def connect() -> Tracing:
    """Export by OTLP over HTTP as OpenTelemetry's own variables say; their service name is sam3-service by default.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    named = OTELResourceDetector().detect().attributes.get(SERVICE_NAME)
    provider = TracerProvider(
        resource=Resource.create({} if named else {SERVICE_NAME: "sam3-service"}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _context(parent: Trace | None) -> Context | None:
    if parent is None or not parent.span_id:
        return None
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent.sampled else trace.TraceFlags.DEFAULT)
    remote = trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(remote))
