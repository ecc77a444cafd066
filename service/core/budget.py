"""The time that one event has, from its arrival to its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_RESERVE = 0.1
_MOST_RESERVE_S = 30.0


class Budget:
    """Counts down `total_s` seconds for each event; a thread handles one event at a time and sees its own only.

    All waiting, reading, computing, writing and announcing of the event must fit into it: past the ack deadline
    Pub/Sub delivers the event again, whatever this process still does.
    """

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._mine = threading.local()

    @contextmanager
    def event(self) -> Iterator[None]:
        """An event begins here; one inside another has the time that is left of the outer."""
        before = getattr(self._mine, "deadline", float("inf"))
        self._mine.deadline = min(before, time.monotonic() + self._total_s)
        try:
            yield
        finally:
            self._mine.deadline = before

    def left_s(self) -> float:
        """Seconds that this thread's event still has, 0 or less when it has none; infinite outside of an event."""
        deadline: float = getattr(self._mine, "deadline", float("inf"))
        return deadline - time.monotonic()

    def left_for_model_s(self) -> float:
        """The same without what is kept for writing and announcing: a result that is not written is worth nothing."""
        return max(0.0, self.left_s() - self._reserve_s)

    @property
    def for_model_s(self) -> float:
        """What the model would have of an event that meets no queue."""
        return self._total_s - self._reserve_s

    @property
    def _reserve_s(self) -> float:
        return min(_MOST_RESERVE_S, self._total_s * _RESERVE)


def unlimited() -> float:
    """The `left_s` of who has no budget."""
    return float("inf")
