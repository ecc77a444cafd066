"""What a run says of itself: its losses, and how fast it is."""

from __future__ import annotations

import logging
import time

from tools.train_tiny.losses import Losses

log = logging.getLogger(__name__)


class Meter:
    """Logs the mean of each loss every `every` steps, with the steps per second."""

    def __init__(self, phase: str, total: int, every: int = 50) -> None:
        self._phase, self._total, self._every = phase, total, every
        self._sums: dict[str, float] = {}
        self._since = time.perf_counter()

    def add(self, step: int, losses: Losses) -> None:
        """Count one step."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach()) / self._every
        if step % self._every:
            return
        speed = self._every / (time.perf_counter() - self._since)
        shown = " ".join(f"{name} {value:.3f}" for name, value in self._sums.items())
        log.info("%s %d/%d  %.2f steps/s  %s", self._phase, step, self._total, speed, shown)
        self._sums, self._since = {}, time.perf_counter()
