"""ONE thread owns the model: it loads it, and answers what the web threads submit, in the order it came."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.core.results import ModelInfo
from service.engine.base import Engine, Grounding, Phrase, Query
from service.errors import NotReady, QueueFull

log = logging.getLogger(__name__)

Load = Callable[[Callable[[str], None]], Engine[Any, Any]]


@dataclass(frozen=True)
class State:
    """Where the model is: `phase` starting|downloading|loading|warming|ready|failed|closed, and why it failed."""

    phase: str
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """What one request asks of the model: `rgb` (H, W, 3) uint8, and its phrases with one threshold and limit."""

    rgb: NDArray[np.uint8]
    phrases: tuple[Phrase, ...]
    threshold: float
    limit: int


@dataclass(frozen=True)
class Answer:
    """One Grounding per phrase, and the milliseconds spent waiting, on the image and on the phrases."""

    groundings: tuple[Grounding, ...]
    queue_ms: float
    encode_image_ms: float
    ground_ms: float


class ModelThread:
    """The owner of the model. `submit` may be called from any thread; everything else happens on one.

    At most `queue_size` tasks wait or run; `prompt_batch` phrases share one forward.
    """

    def __init__(self, load: Load, *, queue_size: int, prompt_batch: int) -> None:
        self._load = load
        self._prompt_batch = prompt_batch
        self._free = threading.BoundedSemaphore(queue_size)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._state = State("starting")
        self._engine: Engine[Any, Any] | None = None

    @property
    def state(self) -> State:
        """The phase now."""
        return self._state

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint; NotReady before there is one."""
        return self._ready_engine().info

    def start(self) -> Future[None]:
        """Begin to load; the future ends with the load and carries its error."""
        return self._thread.submit(self._load_model)

    def submit(self, task: Task, wait_s: float = 0) -> Future[Answer]:
        """Queue a task; NotReady while loading, QueueFull when no place gets free within `wait_s`."""
        self._ready_engine()
        if not self._free.acquire(timeout=wait_s):
            raise QueueFull("the queue is full; try again shortly")
        future = self._thread.submit(self._answer, task, time.perf_counter())
        future.add_done_callback(lambda _: self._free.release())
        return future

    def close(self) -> None:
        """Finish what was accepted, then end the thread."""
        self._thread.shutdown(wait=True)
        self._state = replace(self._state, phase="closed")

    def _ready_engine(self) -> Engine[Any, Any]:
        if self._engine is None or self._state.phase != "ready":
            raise NotReady(f"the model is not ready: {self._state.phase} {self._state.reason}".rstrip())
        return self._engine

    def _load_model(self) -> None:
        started = time.perf_counter()
        try:
            self._engine = self._load(self._enter)
        except BaseException as error:
            self._state = State("failed", str(error))
            raise
        log.info("model ready", extra={"seconds": round(time.perf_counter() - started, 2)})
        self._enter("ready")

    def _enter(self, phase: str) -> None:
        self._state = State(phase)

    def _answer(self, task: Task, submitted: float) -> Answer:
        engine = self._ready_engine()
        begun = time.perf_counter()
        [image] = engine.encode_image([engine.prepare(task.rgb)])
        encoded = time.perf_counter()
        groundings = [g for chunk in self._chunks(task.phrases) for g in self._ground(engine, image, chunk, task)]
        done = time.perf_counter()
        return Answer(
            tuple(groundings),
            *(_ms(a, b) for a, b in ((submitted, begun), (begun, encoded), (encoded, done))),
        )

    def _chunks(self, phrases: tuple[Phrase, ...]) -> list[tuple[Phrase, ...]]:
        return [phrases[i : i + self._prompt_batch] for i in range(0, len(phrases), self._prompt_batch)]

    def _ground(self, engine: Engine[Any, Any], image: Any, phrases: Sequence[Phrase], task: Task) -> list[Grounding]:
        encoded = engine.encode_text([phrase.text for phrase in phrases])
        pairs = zip(encoded, phrases, strict=True)
        return engine.ground([Query(image, t, task.threshold, task.limit, p.exemplars) for t, p in pairs])


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 1)
