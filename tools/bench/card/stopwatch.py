"""Time and memory of calls on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from service.errors import OutOfMemory, ServiceError

OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Measured:
    """Median and best milliseconds; the most device memory allocated meanwhile, weights included; or the error."""

    ms: float | None = None
    best_ms: float | None = None
    vram_mib: float | None = None
    error: str | None = None


class Stopwatch:
    """Measures calls on `device`: some to warm up, then `repeats`, each from an idle device to an idle device."""

    def __init__(self, device: torch.device, repeats: int, warm_ups: int = 2) -> None:
        self._device = device
        self._repeats = repeats
        self._warm_ups = warm_ups

    def measure(self, call: Callable[[], object]) -> Measured:
        """Time a call; what it raises becomes part of the report, so that the rest is measured all the same."""
        try:
            return self._measure(call)
        except (torch.OutOfMemoryError, OutOfMemory):
            error = OUT_OF_MEMORY
        except (RuntimeError, ServiceError) as problem:
            error = reason(problem)
        release(self._device)
        return Measured(error=error)

    def _measure(self, call: Callable[[], object]) -> Measured:
        for _ in range(self._warm_ups):
            call()
        self._reset_peak()
        times = [self._one(call) for _ in range(self._repeats)]
        return Measured(median(times), min(times), self._peak_mib())

    def _one(self, call: Callable[[], object]) -> float:
        if self._device.type != "cuda":
            start = time.perf_counter()
            call()
            return (time.perf_counter() - start) * 1000
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self._device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(self._device)
        return float(begin.elapsed_time(end))

    def _reset_peak(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)

    def _peak_mib(self) -> float | None:
        if self._device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._device) / 2**20


def reason(problem: Exception) -> str:
    """The first line of what an error says."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]


def release(device: torch.device) -> None:
    """Give cached memory back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
