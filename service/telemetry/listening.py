"""The listeners of one process, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service.core.context import StageNotes, Trace
from service.core.observe import Observer, Observers
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Span = Callable[[str, Trace | None], AbstractContextManager[Trace | None]]


def no_span(name: str, parent: Trace | None) -> AbstractContextManager[Trace | None]:
    """No span of our own: log lines belong to the caller's."""
    return nullcontext(parent)


@dataclass(frozen=True)
class Telemetry:
    """Whom the parts tell what they do, what /metrics shows, and how the span of a request or event is made."""

    observer: Observer
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    span: Span = no_span


def listen(otlp_endpoint: str | None, closing: ExitStack) -> Telemetry:
    """Metrics, the stages of log lines, and with an endpoint traces, if the extra `tracing` is installed."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    observers: list[Observer] = [Metrics(registry), StageNotes()]
    if not otlp_endpoint:
        return Telemetry(Observers(observers), registry)
    try:
        from service.telemetry import tracing
    except ImportError as error:
        log.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but there are no traces without the extra `tracing`: %s", error
        )
        return Telemetry(Observers(observers), registry)
    traces = tracing.connect()
    closing.callback(traces.close)
    return Telemetry(Observers([*observers, traces]), registry, traces.span)
