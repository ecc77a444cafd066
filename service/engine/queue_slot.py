"""A caller's slot in the model's queue, from before its image is decoded until its masks are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.engine.work import Answer, Task, Work
from service.errors import CallerGone, Ending

_LOOK_FOR_CALLER_EVERY_S = 0.1


@dataclass(frozen=True)
class Terms:
    """How a caller waits, and for how much.

    urgent: goes ahead of what is not. wait_s: for a slot in a full queue. timeout_s: for slot and answer together.
    alone_s: what the model may need for it at most, were it alone; more is TooLong, which another try would not help.
    gone: whether the caller has left; asked now and then while it waits. max_total: instances over all prompts that it
    can take; None is any number.
    """

    urgent: bool = True
    wait_s: float = 0
    timeout_s: float = float("inf")
    alone_s: float = float("inf")
    gone: Callable[[], bool] = lambda: False
    max_total: int | None = None


PERSON = Terms()
"""A person's request that takes a free slot or none."""


class QueueSlot:
    """A reserved place in the queue: prepare the image, then run the task on it, once."""

    def __init__(
        self,
        terms: Terms,
        deadline: float,
        prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        submit: Callable[[Work], None],
        goes_back: Callable[[Work], bool],
    ) -> None:
        self.prepare = prepare
        """Resize (H, W, 3) to the model's square (3, S, S)."""
        self.work: Work | None = None
        """What was handed over, if it was, until the slot is left."""
        self._terms = terms
        self.deadline = deadline
        """When the terms' time is over, on the monotonic clock."""
        self._submit = submit
        self._goes_back = goes_back

    def run(self, task: Task) -> Answer:
        """Wait for the answer.

        Raises DeadlineExceeded, TooLong or CallerGone when it is not wanted any more, TooManyInstances over the task's
        limit, Ending when the process ends.
        """
        work = Work(task, self._terms.urgent, self.deadline, self._terms.alone_s)
        self._submit(work)
        self.work = work
        try:
            return self._answer(work)
        finally:
            work.give_up = True
            del work  # its future has the error, which has this frame: together they would outlive image and masks

    def _answer(self, work: Work) -> Answer:
        try:
            while not self._done(work):
                self._require_wanted(work)
            return work.future.result()
        finally:
            del work  # as in `run`

    def _require_wanted(self, work: Work) -> None:
        if time.monotonic() >= self.deadline:
            raise work.late(f"within {self._terms.timeout_s:g} s")
        if self._goes_back(work):
            raise Ending
        if self._terms.gone():
            raise CallerGone("the caller has closed the connection")

    def _done(self, work: Work) -> bool:
        left = self.deadline - time.monotonic()
        done, _ = wait([work.future], timeout=max(0.0, min(left, _LOOK_FOR_CALLER_EVERY_S)))
        return bool(done)
