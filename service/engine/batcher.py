"""ONE thread owns the model: it loads it, joins what waits into shared forwards, and answers the web threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.core.observe import SILENT, Observer
from service.core.results import ModelInfo
from service.engine.base import Engine
from service.engine.collection import no_collection
from service.engine.forwards import Forwards
from service.engine.heap import find_trim
from service.engine.pace import Pace
from service.engine.queue_slot import PERSON, QueueSlot, Terms
from service.engine.schedule import Encode, Ground, Schedule
from service.engine.state import Phase, State
from service.engine.work import Work
from service.errors import Ending, EngineBroken, NotReady, QueueFull

log = logging.getLogger(__name__)

Load = Callable[[Callable[[Phase], None]], Engine[Any, Any]]

# On a CPU the vision encoder gains nothing from a second image, and memory grows faster than speed with prompts.
_DEFAULT_BATCHES = {"cuda": (4, 8), "cpu": (1, 4)}
_IDLE_S = 0.25
_LOOK_FOR_LATE_EVERY_S = 0.1


@dataclass(frozen=True)
class BatchPolicy:
    """How work is joined.

    queue_size: requests, and as many events, that wait or run. image_batch, prompt_batch: images in one forward of the
    vision encoder, prompts in one of grounding; 0 chooses by device. join_ms: how long an idle model waits for requests
    that are being decoded, to share a forward with them. text_cache_bytes: features of phrases that stay encoded.
    mask_bytes: logits of masks that are being made; while there are more, nothing is begun that may find any number.
    """

    queue_size: int = 16
    image_batch: int = 0
    prompt_batch: int = 0
    join_ms: float = 3
    text_cache_bytes: int = 64 * 1024 * 1024
    mask_bytes: int = 1024 * 1024 * 1024


class ModelThread:
    """The owner of the model. `slot` may be entered from any thread; the model's calls happen on one."""

    def __init__(self, load: Load, policy: BatchPolicy = BatchPolicy(), observer: Observer = SILENT) -> None:
        self._load = load
        self._policy = policy
        self._observer = observer
        self._free = dict.fromkeys((True, False), policy.queue_size)
        self._changed = threading.Condition()
        self._arrived: list[Work] = []
        self._held: set[Work] = set()
        self._accepted = Schedule(1, 1)
        self._on_the_way = 0
        self._closing = False
        self._last_call = float("inf")
        self._forward_began: float | None = None
        self._pace = Pace()
        self._state = State("starting")
        self._entered = time.perf_counter()
        self._engine: Engine[Any, Any] | None = None
        self._loaded: Future[None] = Future()
        self.ended: Future[None] = Future()
        """Done when the thread has ended, with the error when it could not go on: a failed load, a broken engine."""
        # Daemons, so that the interpreter's end does not wait for them before `close` can be called.
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._preparer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
        self._trim_heap = find_trim()

    @property
    def state(self) -> State:
        """The phase now."""
        return self._state

    @property
    def running_s(self) -> float:
        """For how long the forward has been running that runs now; 0 when there is none."""
        began = self._forward_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def waiting(self) -> int:
        """Requests and events that have been handed over and are not answered yet."""
        with self._changed:
            return len(self._arrived) + len(self._accepted)

    def taken(self, *, urgent: bool) -> int:
        """How many slots of the queue are taken now, by people or (not `urgent`) by events."""
        return self._policy.queue_size - self._free[urgent]

    @property
    def info(self) -> ModelInfo:
        """Identity of the loaded checkpoint; NotReady before there is one."""
        return self._ready_engine().info

    def estimate_s(self, prompts: int) -> float | None:
        """The least that the model needs for an image with so many prompts, were it alone; None if not known yet."""
        return self._pace.estimate_s(prompts)

    def start(self) -> Future[None]:
        """Begin to load; the future ends with the load and carries its error."""
        self._thread.start()
        return self._loaded

    @contextmanager
    def slot(self, terms: Terms = PERSON) -> Iterator[QueueSlot]:
        """Take a slot in the queue, before an image is decoded for nothing.

        Raises NotReady while loading, QueueFull when none gets free within `terms.wait_s`, Ending after `drain`.
        """
        self._ready_engine()
        deadline = time.monotonic() + terms.timeout_s
        self._enter_queue(terms)
        slot = QueueSlot(terms, deadline, self._prepare, self._submit, self._goes_back)
        try:
            yield slot
        finally:
            self._leave_queue(terms, slot)

    def drain(self, grace_s: float) -> None:
        """Begin to end: nobody new gets a slot, events that the model has not begun go back at once.

        What else is waiting or running has `grace_s` seconds, then it goes back too. May be called in a signal handler.
        """
        with self._changed:
            self._last_call = min(self._last_call, time.monotonic() + grace_s)
            self._changed.notify_all()

    def close(self) -> None:
        """Finish what was accepted, then end the thread; one that still loads has accepted nothing and is left."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive() and self._loaded.done():
            self._thread.join()
        self._preparer.shutdown()
        self._state = replace(self._state, phase="closed")

    def _prepare(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize (H, W, 3) to the model's square beside the model's own thread.

        On one thread: torch keeps a team of workers for each thread that ever calls it.
        """
        return self._preparer.submit(self._ready_engine().prepare, rgb).result()

    def _submit(self, work: Work) -> None:
        """Hand a work over; NotReady when the thread is about to end."""
        with self._changed:
            if self._closing:
                raise self._not_ready()
            self._arrived.append(work)
            self._held.add(work)
            self._on_the_way -= 1
            self._changed.notify_all()

    def _enter_queue(self, terms: Terms) -> None:
        with self._changed:
            wait_s = max(0.0, min(terms.wait_s, terms.timeout_s))
            found = self._changed.wait_for(lambda: self._draining or self._free[terms.urgent] > 0, wait_s)
            if self._draining:
                raise Ending
            if not found:
                raise QueueFull("the queue is full; try again shortly")
            self._free[terms.urgent] -= 1
            self._on_the_way += 1
            self._changed.notify_all()

    def _leave_queue(self, terms: Terms, slot: QueueSlot) -> None:
        with self._changed:
            self._free[terms.urgent] += 1
            if slot.work is None:
                self._on_the_way -= 1
            else:
                self._held.remove(slot.work)
                slot.work = None  # the caller's frame keeps the slot for as long as its error
            self._changed.notify_all()

    @property
    def _draining(self) -> bool:
        return self._last_call != float("inf")

    def _goes_back(self, work: Work) -> bool:
        """Whether a work that is not done will be left to another instance, as this one ends."""
        unbegun_event = not work.urgent and not work.begun
        return self._draining and (unbegun_event or time.monotonic() >= self._last_call)

    def _ready_engine(self) -> Engine[Any, Any]:
        if self._engine is None or self._state.phase != "ready":
            raise self._not_ready()
        return self._engine

    def _not_ready(self) -> NotReady:
        return NotReady(f"the model is not ready ({self._state.phase}): {self._state.reason}".removesuffix(": "))

    def _run(self) -> None:
        try:
            engine = self._load_model()
            self._serve(engine)
        except BaseException as error:  # noqa: BLE001 - handed on: who wired this up decides what becomes of the process
            self._state = replace(self._state, phase="failed", error=str(error) or type(error).__name__)
            self._end(error)
        else:
            self._end(None)

    def _load_model(self) -> Engine[Any, Any]:
        with no_collection():
            engine = self._load(self._enter)
        self._engine = engine
        self._enter("ready")
        log.info("model ready", extra={"phases_ms": self._state.phases_ms})
        self._loaded.set_result(None)
        return engine

    def _enter(self, phase: Phase) -> None:
        now = time.perf_counter()
        took_ms = round((now - self._entered) * 1000)
        self._state = State(phase, phases_ms={**self._state.phases_ms, self._state.phase: took_ms})
        self._entered = now

    def _serve(self, engine: Engine[Any, Any]) -> None:
        images, prompts = _DEFAULT_BATCHES.get(engine.info.device, _DEFAULT_BATCHES["cpu"])
        schedule = Schedule(self._policy.image_batch or images, self._policy.prompt_batch or prompts)
        forwards = Forwards(engine, schedule, self._policy.text_cache_bytes, self._pace, self._observer)
        self._accepted = schedule
        while self._await_work(schedule):
            self._run_next(forwards, schedule)

    def _run_next(self, forwards: Forwards, schedule: Schedule) -> None:
        """One forward. Its step ends here: waiting for work, the thread would keep the last one's tensors and masks."""
        if step := self._next(schedule):
            self._forward_began = time.monotonic()
            try:
                forwards.run(step)
            finally:
                self._forward_began = None
        elif schedule:
            self._await_room()

    def _next(self, schedule: Schedule) -> Encode | Ground | None:
        now = time.monotonic()
        for work in schedule.drop(lambda work: work.give_up or now >= work.deadline):
            work.fail(work.late())
        for work in schedule.drop(self._goes_back):
            work.fail(Ending())
        with self._changed:
            full = self._full
        return schedule.next(full=full)

    def _await_work(self, schedule: Schedule) -> bool:
        """Move what has arrived into the schedule, waiting when there is nothing; False at the end."""
        with self._changed:
            if not schedule:
                self._await_arrival()
                self._changed.wait_for(lambda: self._joined(schedule), self._policy.join_ms / 1000)
            for work in self._arrived:
                schedule.add(work)
            self._arrived.clear()
            return bool(schedule) or not self._closing

    @property
    def _full(self) -> bool:
        """Whether callers hold as many masks as they may; each lets go of its own when it leaves the queue."""
        return sum(work.mask_bytes for work in self._held) >= self._policy.mask_bytes

    def _await_room(self) -> None:
        """Sleep until masks are let go of or other work comes; now and then somebody has waited for too long."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or not self._full, _LOOK_FOR_LATE_EVERY_S)

    def _await_arrival(self) -> None:
        """Sleep until there is work; the memory of the last is given back when none has followed it for a moment."""

        def something() -> bool:
            return bool(self._arrived) or self._closing

        if not self._changed.wait_for(something, _IDLE_S):
            self._trim_heap()
            self._changed.wait_for(something)

    def _joined(self, schedule: Schedule) -> bool:
        return len(self._arrived) >= schedule.image_batch or not self._on_the_way

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._closing = True
            left = self._accepted.drop(lambda work: True) + self._arrived
        for work in left:
            work.fail(EngineBroken("the model has ended; another instance will do the work"))
        if error is None:
            self.ended.set_result(None)
            return
        if not self._loaded.done():
            self._loaded.set_exception(error)
        self.ended.set_exception(error)
