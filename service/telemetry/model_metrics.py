"""What is asked of the model when metrics are read: its queue, its start, its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.engine.batcher import ModelThread
from service.errors import NotReady


class ModelMetrics(Collector):
    """Gauges of one model; `memory_bytes` tells the GPU's memory by kind, and is asked only when the model is ready."""

    def __init__(self, model: ModelThread, memory_bytes: Callable[[], Mapping[str, int]]) -> None:
        self._model = model
        self._memory_bytes = memory_bytes

    def collect(self) -> Iterator[Metric]:
        """Every gauge as it is now."""
        state = self._model.state
        ready = state.phase == "ready"
        yield _gauge(
            "sam3_queue_depth",
            "Places taken in the model's queue, by `kind`: people or events",
            "kind",
            {"people": self._model.taken(urgent=True), "events": self._model.taken(urgent=False)},
        )
        yield GaugeMetricFamily("sam3_model_ready", "1 when the model answers, else 0", value=int(ready))
        yield _gauge(
            "sam3_model_phase_seconds",
            "Seconds that each `phase` of the start took, as far as it is over",
            "phase",
            {phase: ms / 1000 for phase, ms in state.phases_ms.items()},
        )
        yield self._info()
        yield _gauge(
            "sam3_gpu_memory_bytes",
            "torch's memory on the GPU, by `kind`: allocated, reserved, or peak (the most that was ever allocated); "
            "none without a GPU",
            "kind",
            self._memory_bytes() if ready else {},
        )

    def _info(self) -> Metric:
        names = ("id", "revision", "device", "dtype")
        family = GaugeMetricFamily("sam3_model_info", "1, with `id`, `revision`, `device` and `dtype`", labels=names)
        try:
            info = self._model.info
        except NotReady:
            return family
        family.add_metric([str(getattr(info, name)) for name in names], 1)
        return family


def _gauge(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    for key, value in values.items():
        family.add_metric([key], value)
    return family
