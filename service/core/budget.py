"""The time that an event or a request has, from its arrival to its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_RESERVE = 0.1
_MOST_RESERVE_S = 30.0


@dataclass(frozen=True)
class _Work:
    """What a thread is at: the seconds it was given, and when they end on the monotonic clock."""

    total_s: float
    deadline: float


_NOTHING = _Work(float("inf"), float("inf"))


class Budget:
    """Counts down the seconds of what a thread is at; a thread sees its own work only.

    All waiting, reading, computing, writing and announcing must fit into them: past the ack deadline Pub/Sub delivers
    an event again, and past the platform's timeout nobody hears a request's answer, whatever this process still does.
    """

    def __init__(self) -> None:
        self._mine = threading.local()

    @contextmanager
    def within(self, total_s: float) -> Iterator[None]:
        """Work of `total_s` seconds begins here; inside other work it has what is left of that, if this is less."""
        before = self._work
        work = _Work(total_s, time.monotonic() + total_s)
        self._mine.work = work if work.deadline < before.deadline else before
        try:
            yield
        finally:
            self._mine.work = before

    def left_s(self) -> float:
        """Seconds that this thread's work still has, 0 or less when it has none; infinite outside of any."""
        return self._work.deadline - time.monotonic()

    def left_for_model_s(self) -> float:
        """The same without what is kept for writing and announcing: a result that is not written is worth nothing."""
        return max(0.0, self.left_s() - self._reserve_s)

    @property
    def for_model_s(self) -> float:
        """What the model would have of this thread's work if that met no queue."""
        return self._work.total_s - self._reserve_s

    @property
    def _work(self) -> _Work:
        work: _Work = getattr(self._mine, "work", _NOTHING)
        return work

    @property
    def _reserve_s(self) -> float:
        return min(_MOST_RESERVE_S, self._work.total_s * _RESERVE)


def unlimited() -> float:
    """The `left_s` of who has no budget."""
    return float("inf")
