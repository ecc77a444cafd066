"""Prometheus metrics, each in a registry that is handed in."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from service.core.observe import Items, Observer, Stage

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_ITEMS = (1, 2, 4, 8, 16, 32, 64)


class Metrics(Observer):
    """Counts what it hears. Labels are words of the code's own, never of a caller, so there are few series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "sam3_requests", "Requests answered, by `door` and status (`code`)", ("door", "code"), registry=registry
        )
        self._request_seconds = Histogram(
            "sam3_request_seconds",
            "Seconds from a request's head to its answer, by `door`",
            ("door",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._events = Counter(
            "sam3_events",
            "Images' events, by `outcome`: how an acknowledged one ended, or the error that had it delivered again",
            ("outcome",),
            registry=registry,
        )
        self._stages = Histogram(
            "sam3_stage_seconds",
            "Seconds in each `stage` of requests and events; `queue` is the wait after decoding",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "sam3_batch_size",
            "`items` (images or prompts) in one forward",
            ("items",),
            buckets=_ITEMS,
            registry=registry,
        )
        self._texts = Counter(
            "sam3_text_cache_lookups", "Phrases of forwards, by `result`: hit or miss", ("result",), registry=registry
        )
        self._instances = Counter("sam3_instances", "Instances found, over all prompts", registry=registry)

    def stage(self, name: Stage, began: float, seconds: float) -> None:
        """One more duration."""
        self._stages.labels(name).observe(max(0.0, seconds))

    def found(self, instances: int) -> None:
        """So many more."""
        self._instances.inc(instances)

    def forward(self, items: Items, count: int) -> None:
        """One more batch."""
        self._batches.labels(items).observe(count)

    def texts(self, hits: int, misses: int) -> None:
        """So many more of each."""
        self._texts.labels("hit").inc(hits)
        self._texts.labels("miss").inc(misses)

    def event(self, outcome: str) -> None:
        """One more."""
        self._events.labels(outcome).inc()

    def answered(self, door: str, status: int, seconds: float) -> None:
        """One more."""
        self._requests.labels(door, str(status)).inc()
        self._request_seconds.labels(door).observe(seconds)


def render(registry: CollectorRegistry) -> tuple[bytes, str]:
    """All metrics now, and the media type of their format.

    https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
    """
    return generate_latest(registry), CONTENT_TYPE_LATEST


def metrics_table(registry: CollectorRegistry) -> str:
    """The Markdown table of this service's own metrics, as docs/telemetry.md shows it.

    Labels are those of the samples: of a metric that has none yet they are not known.
    """
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {_labels(family)} "
        f"| {family.documentation} |"
        for family in registry.collect()
        if family.name.startswith("sam3_")
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _labels(family: Metric) -> str:
    names = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
    return ", ".join(f"`{name}`" for name in names) or "–"
