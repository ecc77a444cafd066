"""The request or event that a thread is working on: what its log lines and spans are about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.core.observe import Observer, Stage

# version-trace-parent-flags; what a later version adds is ignored: https://www.w3.org/TR/trace-context/#versioning-of-traceparent
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# TRACE_ID[/SPAN_ID[;o=OPTIONS]], the span in decimal: https://cloud.google.com/trace/docs/trace-context#legacy-http-header
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")
_SPANS = 1 << 64


@dataclass(frozen=True)
class Trace:
    """Where we are in a distributed trace: 32 and 16 hex digits; `span_id` is "" when it is not known."""

    trace_id: str
    span_id: str = ""
    sampled: bool = False


@dataclass(frozen=True)
class Context:
    """What is being worked on. labels, to search log lines by, and stages_ms are filled while the work goes on."""

    trace: Trace | None = None
    labels: dict[str, str] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)


# The one state that is not handed in: log lines are made deep inside of libraries that know nothing of requests.
_current: ContextVar[Context | None] = ContextVar("service_context", default=None)


def current() -> Context | None:
    """What this thread is working on, or None."""
    return _current.get()


@contextmanager
def entered(context: Context) -> Iterator[Context]:
    """Work on this within the block."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def label(**labels: str) -> None:
    """Add labels to what is being worked on, if anything is; empty ones are left out."""
    now = current()
    if now is not None:
        now.labels.update({name: value for name, value in labels.items() if value})


class StageNotes(Observer):
    """Notes the stages in what is being worked on; those of several images add up."""

    def stage(self, name: Stage, began: float, seconds: float) -> None:
        """Note it, in milliseconds."""
        now = current()
        if now is not None:
            now.stages_ms[name] = round(now.stages_ms.get(name, 0.0) + seconds * 1000, 1)


def incoming_trace(headers: Mapping[str, str]) -> Trace | None:
    """The trace that a request or message belongs to, by `traceparent` or else `X-Cloud-Trace-Context` (any case).

    Headers that are not well formed count as missing, as both specifications ask for.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    return _traceparent(lower.get("traceparent", "")) or _cloud_trace(lower.get("x-cloud-trace-context", ""))


def _traceparent(text: str) -> Trace | None:
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None or (match[4] and text.startswith("00")) or not int(match[1], 16) or not int(match[2], 16):
        return None
    return Trace(match[1], match[2], bool(int(match[3], 16) & 1))


def _cloud_trace(text: str) -> Trace | None:
    match = _CLOUD_TRACE.fullmatch(text.strip())
    if match is None or not int(match[1], 16):
        return None
    span = int(match[2] or 0)
    return Trace(match[1].lower(), f"{span:016x}" if 0 < span < _SPANS else "", match[3] == "1")
