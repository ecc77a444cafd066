"""An engine that knows how long it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.core.results import ModelInfo
from service.engine.base import Engine, Grounding, Query


@dataclass(frozen=True)
class Clock:
    """How long an engine has worked by `now_s`, in seconds: on its thread, on text there, and beside it on images."""

    now_s: float = 0
    busy_s: float = 0
    text_s: float = 0
    prompts: int = 0
    prepare_s: float = 0


class Clocked:
    """An engine that knows how long it works; the call that runs counts as far as it has come."""

    def __init__(self, engine: Engine[Any, Any]) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._done = Clock()
        self._since: float | None = None

    @property
    def info(self) -> ModelInfo:
        """The engine's."""
        return self._engine.info

    def check(self) -> None:
        """The engine's."""
        with self._working():
            self._engine.check()

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The engine's; runs beside its work and does not count as such."""
        start = time.perf_counter()
        try:
            return self._engine.prepare(image)
        finally:
            with self._lock:
                took = time.perf_counter() - start
                self._done = replace(self._done, prepare_s=self._done.prepare_s + took)

    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """The engine's."""
        with self._working():
            return self._engine.encode_image(images)

    def encode_text(self, texts: Sequence[str]) -> list[Any]:
        """The engine's."""
        with self._working(text=True):
            return self._engine.encode_text(texts)

    def ground(self, queries: Sequence[Query[Any, Any]]) -> list[Grounding]:
        """The engine's."""
        with self._working(prompts=len(queries)):
            return self._engine.ground(queries)

    def read(self) -> Clock:
        """The clock now; from any thread."""
        with self._lock:
            now_s = time.perf_counter()
            running = now_s - self._since if self._since is not None else 0
            return replace(self._done, now_s=now_s, busy_s=self._done.busy_s + running)

    @contextmanager
    def _working(self, *, text: bool = False, prompts: int = 0) -> Iterator[None]:
        start = time.perf_counter()
        with self._lock:
            self._since = start
        try:
            yield
        finally:
            with self._lock:
                took, self._since = time.perf_counter() - start, None
                done = self._done
                self._done = replace(
                    done,
                    busy_s=done.busy_s + took,
                    text_s=done.text_s + took * text,
                    prompts=done.prompts + prompts,
                )
