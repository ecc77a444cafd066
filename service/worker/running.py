"""The jobs that this process is doing now: a message that comes twice waits for them and computes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from service.errors import DeadlineExceeded

Result = TypeVar("Result")


class Running(Generic[Result]):
    """Joins callers that want the same at the same time.

    It saves work and decides nothing: two processes may do the same job, and the conditional write lets one of them
    win.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[Hashable, Future[Result]] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many callers wait for what another is doing."""
        return self._waiting

    def once(self, key: Hashable, work: Callable[[], Result], timeout_s: float) -> tuple[Result, bool]:
        """The result of `work`, and whether this caller did it; else it is that of the caller who was doing it.

        Who waits fails as the one it waits for: the message comes again with a growing delay, where one after another
        trying what has just failed would keep the model, or a storage in trouble, from recovering. DeadlineExceeded
        after `timeout_s`.
        """
        if future := self._join(key):
            try:
                return self._shared(future, timeout_s), False
            finally:
                del future  # it has the error, which has this frame: together they would outlive image and answer
        try:
            result = work()
        except BaseException as error:
            self._leave(key).set_exception(error)
            raise
        self._leave(key).set_result(result)
        return result, True

    def _shared(self, future: Future[Result], timeout_s: float) -> Result:
        try:
            if not self._await(future, timeout_s):
                raise DeadlineExceeded("the same job is still running in this process")
            return future.result()
        finally:
            del future  # as in `once`

    def _await(self, future: Future[Result], timeout_s: float) -> bool:
        try:
            return bool(wait([future], None if timeout_s == float("inf") else max(0.0, timeout_s)).done)
        finally:
            with self._lock:
                self._waiting -= 1

    def _join(self, key: Hashable) -> Future[Result] | None:
        """What another is doing; None makes this caller the one who does it, and who does not hold its own future."""
        with self._lock:
            if future := self._futures.get(key):
                self._waiting += 1
                return future
            self._futures[key] = Future()
            return None

    def _leave(self, key: Hashable) -> Future[Result]:
        with self._lock:
            return self._futures.pop(key)
