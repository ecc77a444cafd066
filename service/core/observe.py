"""What the parts tell about their work while they do it. Who listens is decided where they are put together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

Stage = Literal["decode", "queue", "encode_image", "ground", "postprocess", "fetch", "write", "announce"]
Items = Literal["images", "prompts"]


class Observer:
    """Hears of the work and does nothing: the default, and the base of those who listen to a part of it.

    Methods are called from many threads, must not raise and must not wait. But for `forward` and `texts`, which are the
    model thread's, they are called in the thread and the context of the request or event.
    """

    def stage(self, name: Stage, began: float, seconds: float) -> None:
        """A stage of a request or event is over, well or not; it began at that time.monotonic()."""

    def found(self, instances: int) -> None:
        """A segmentation has so many instances, over all of its prompts."""

    def forward(self, items: Items, count: int) -> None:
        """The model begins a forward over so many images or prompts."""

    def texts(self, hits: int, misses: int) -> None:
        """So many different phrases were encoded already, so many have to be."""

    def event(self, outcome: str) -> None:
        """An image's event has ended: its outcome's status, or the code of the error that keeps it."""

    def answered(self, door: str, status: int, seconds: float) -> None:
        """A request has been answered; `door` is the name of the part that did it."""


SILENT = Observer()
"""Nobody listens."""


class Observers(Observer):
    """Several who listen, told in this order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def stage(self, name: Stage, began: float, seconds: float) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.stage(name, began, seconds)

    def found(self, instances: int) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.found(instances)

    def forward(self, items: Items, count: int) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.forward(items, count)

    def texts(self, hits: int, misses: int) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.texts(hits, misses)

    def event(self, outcome: str) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.event(outcome)

    def answered(self, door: str, status: int, seconds: float) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.answered(door, status, seconds)


@contextmanager
def timed(observer: Observer, name: Stage, timing_ms: dict[str, float] | None = None) -> Iterator[None]:
    """Tell how long the block took, whether or not it fails, and note it in `timing_ms`."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - began
        if timing_ms is not None:
            timing_ms[name] = round(seconds * 1000, 1)
        observer.stage(name, began, seconds)
