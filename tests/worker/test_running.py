from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from service.errors import DeadlineExceeded, OutOfMemory
from service.worker.running import Running
from tests.garbage import no_garbage_collector

FOREVER = float("inf")


class Held:
    """Work that has begun and waits for the test."""

    def __init__(self, outcome: Callable[[], str]) -> None:
        self.calls = 0
        self.begun, self.release = threading.Event(), threading.Event()
        self._outcome = outcome

    def __call__(self) -> str:
        self.calls += 1
        self.begun.set()
        assert self.release.wait(30)
        return self._outcome()


def joined(
    running: Running[str], held: Held, pool: ThreadPoolExecutor, eventually: Any, waiters: int
) -> list[Future[tuple[str, bool]]]:
    """The first caller, then those that wait for it."""
    futures = [pool.submit(running.once, "key", held, FOREVER)]
    assert held.begun.wait(10)
    futures += [pool.submit(running.once, "key", held, FOREVER) for _ in range(waiters)]
    eventually(lambda: running.waiting == waiters, 10)
    return futures


def test_who_comes_later_gets_what_the_first_is_doing(eventually: Any) -> None:
    running: Running[str] = Running()
    held = Held(lambda: "done")
    with ThreadPoolExecutor(4) as pool:
        futures = joined(running, held, pool, eventually, 3)
        held.release.set()
        assert [future.result() for future in futures] == [("done", True)] + [("done", False)] * 3
    assert held.calls == 1
    assert running.waiting == 0


def test_a_failure_is_shared_and_then_forgotten(eventually: Any) -> None:
    running: Running[str] = Running()

    def fail() -> str:
        raise OutOfMemory("full")

    held = Held(fail)
    with ThreadPoolExecutor(4) as pool:
        futures = joined(running, held, pool, eventually, 3)
        held.release.set()
        for future in futures:
            with pytest.raises(OutOfMemory, match="full"):
                future.result()
    assert held.calls == 1
    assert running.once("key", lambda: "again", FOREVER) == ("again", True)


def test_what_is_done_is_not_kept() -> None:
    running: Running[str] = Running()
    assert running.once("key", lambda: "one", FOREVER) == ("one", True)
    assert running.once("key", lambda: "two", FOREVER) == ("two", True)


def test_other_work_does_not_wait() -> None:
    running: Running[str] = Running()
    held = Held(lambda: "done")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.once, "key", held, FOREVER)
        assert held.begun.wait(10)
        assert running.once("other", lambda: "other", FOREVER) == ("other", True)
        held.release.set()
        assert first.result() == ("done", True)


@pytest.mark.parametrize("timeout_s", [0.01, 0, -1])
def test_waiting_ends_with_the_time(timeout_s: float) -> None:
    running: Running[str] = Running()
    held = Held(lambda: "done")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.once, "key", held, FOREVER)
        assert held.begun.wait(10)
        with pytest.raises(DeadlineExceeded, match="the same job is still running"):
            running.once("key", held, timeout_s)
        held.release.set()
        assert first.result() == ("done", True)
    assert held.calls == 1


class Image:
    """What a job holds while it runs."""


def test_nothing_of_a_failed_job_outlives_its_error(eventually: Any) -> None:
    """A full collection may be hours away, and a job holds an image and its masks."""
    running: Running[str] = Running()
    images: list[weakref.ref[Image]] = []

    def fail() -> str:
        image = Image()
        images.append(weakref.ref(image))
        raise OutOfMemory("full")

    with no_garbage_collector():
        with suppress(OutOfMemory):
            running.once("key", fail, FOREVER)
        assert images.pop()() is None
        held = Held(fail)
        with ThreadPoolExecutor(2) as pool:
            futures = joined(running, held, pool, eventually, 1)
            held.release.set()
            assert all(isinstance(future.exception(30), OutOfMemory) for future in futures)
            futures.clear()
        assert images.pop()() is None
