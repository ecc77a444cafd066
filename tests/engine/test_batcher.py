"""Timing and faults are staged with a scripted engine; what it computes does not matter here."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.core.results import ModelInfo
from service.engine.base import Grounding, Phrase, Query
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.forwards import Forwards
from service.engine.pace import Pace
from service.engine.queue_slot import PERSON, Terms
from service.engine.schedule import Schedule
from service.engine.state import Phase
from service.engine.work import Answer, Task, Work
from service.errors import (
    CallerGone,
    DeadlineExceeded,
    Ending,
    EngineBroken,
    ModelUnavailable,
    NotFinite,
    NotReady,
    OutOfMemory,
    QueueFull,
    ServiceError,
    TooLong,
    TooManyInstances,
)
from tests.garbage import no_garbage_collector

PIXEL = np.zeros((1, 1, 3), np.uint8)
EVENT = Terms(urgent=False)


@dataclass(frozen=True)
class Text:
    text: str
    nbytes: int = 100


class ScriptedEngine:
    """Answers each phrase with one instance whose score is the phrase's number; `gate` holds it back.

    `room`: prompts that fit. `fault`: what its check raises.
    """

    def __init__(self, *, room: int = 1000, fault: Exception | None = None) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.threads: set[str] = set()
        self.images: list[int] = []
        self.texts: list[list[str]] = []
        self.batches: list[list[str]] = []
        self.checks = 0
        self.fault = fault
        self._room = room

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("scripted", "1", "cpu", "float32")

    def check(self) -> None:
        self.checks += 1
        if self.fault:
            raise self.fault

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image

    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        self.threads.add(threading.current_thread().name)
        self.images.append(len(images))
        self.busy.set()
        assert self.gate.wait(30)
        return ["image" for _ in images]

    def encode_text(self, texts: Sequence[str]) -> list[Text]:
        self.texts.append(list(texts))
        return [Text(text) for text in texts]

    def ground(self, queries: Sequence[Query[str, Text]]) -> list[Grounding]:
        self.batches.append([query.text.text for query in queries])
        if len(queries) > self._room:
            raise OutOfMemory(f"{len(queries)} do not fit")
        for query in queries:
            if query.text.text == "boom":
                raise RuntimeError("the kernel broke")
            if query.text.text == "odd":
                raise NotFinite("the scores are NaN")
            if query.text.text == "lost":
                raise EngineBroken("the device does not answer any more")
        scores = [np.array([float(query.text.text)], np.float32) for query in queries]
        return [Grounding(score, np.zeros((1, 4), np.float32), np.zeros((1, 2, 2), np.float32)) for score in scores]


@contextmanager
def running(engine: ScriptedEngine, **policy: int) -> Iterator[ModelThread]:
    model = ModelThread(lambda report: engine, BatchPolicy(**{"queue_size": 8, **policy}))
    model.start().result(10)
    try:
        yield model
    finally:
        engine.gate.set()
        model.close()


def ask(model: ModelThread, *texts: str, terms: Terms = PERSON) -> Answer:
    with model.slot(terms) as slot:
        return slot.run(
            Task(slot.prepare(PIXEL), tuple(map(Phrase, texts)), threshold=0.5, limit=10, max_total=terms.max_total)
        )


def scores(answer: Answer) -> list[float]:
    return [round(float(grounding.scores[0]), 1) for grounding in answer.groundings]


@contextmanager
def callers(count: int = 20) -> Iterator[Callable[..., Future[Answer]]]:
    with ThreadPoolExecutor(count) as threads:
        yield lambda model, *texts, **options: threads.submit(ask, model, *texts, **options)


def held(engine: ScriptedEngine, model: ModelThread, start: Callable[..., Future[Answer]]) -> Future[Answer]:
    """A request that keeps the model busy until the gate opens."""
    engine.gate.clear()
    engine.busy.clear()
    first = start(model, "0.9")
    assert engine.busy.wait(10)
    return first


def settle(model: ModelThread, waiting: int) -> None:
    """Until so many requests wait for the model or run."""
    until = time.monotonic() + 10
    while model.waiting != waiting:
        assert time.monotonic() < until, model.waiting
        time.sleep(0.01)


def test_answers_in_the_order_of_the_phrases_in_bounded_batches() -> None:
    engine = ScriptedEngine()
    with running(engine, prompt_batch=2) as model:
        assert scores(ask(model, "0.5", "0.4", "0.3", "0.2", "0.1")) == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert [len(batch) for batch in engine.batches] == [2, 2, 1]


def test_one_thread_runs_everything() -> None:
    engine = ScriptedEngine()
    with running(engine, queue_size=32) as model, callers() as start:
        for future in [start(model, "0.1") for _ in range(20)]:
            future.result(10)
    assert len(engine.threads) == 1


def test_requests_that_wait_share_forwards() -> None:
    engine = ScriptedEngine()
    with running(engine, image_batch=4, prompt_batch=8) as model, callers() as start:
        first = held(engine, model, start)
        others = [start(model, "0.1", "0.2") for _ in range(4)]
        settle(model, 5)
        engine.gate.set()
        assert [scores(future.result(10)) for future in others] == [[0.1, 0.2]] * 4
        first.result(10)
    assert engine.images == [1, 4]
    assert sorted(map(len, engine.batches)) == [1, 8]


def test_an_idle_model_waits_for_a_request_that_is_being_decoded() -> None:
    engine = ScriptedEngine()
    with running(engine, image_batch=4, join_ms=30_000) as model, callers() as start, model.slot() as slow:
        quick = start(model, "0.1")
        settle(model, 1)
        assert not quick.done()
        slow.run(Task(slow.prepare(PIXEL), (Phrase("0.2"),), 0.5, 10))
        quick.result(10)
    assert engine.images == [2]


def test_a_request_that_fails_to_decode_is_not_waited_for() -> None:
    engine = ScriptedEngine()
    with running(engine, image_batch=4, join_ms=30_000) as model:
        with pytest.raises(ValueError, match="no image"), model.slot():
            raise ValueError("no image")
        assert scores(ask(model, "0.1")) == [0.1]


def test_people_go_ahead_of_events_that_came_before_them() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        events = [start(model, "0.1", terms=EVENT) for _ in range(3)]
        settle(model, 4)
        person = start(model, "0.7")
        settle(model, 5)
        engine.gate.set()
        for future in (first, person, *events):
            future.result(10)
    order = [text for batch in engine.batches for text in batch]
    assert order.index("0.7") <= 1


def test_events_leave_people_their_places() -> None:
    engine = ScriptedEngine()
    with running(engine, queue_size=2) as model, callers() as start:
        first = held(engine, model, start)
        events = [start(model, "0.1", terms=EVENT) for _ in range(2)]
        settle(model, 3)
        with pytest.raises(QueueFull):
            ask(model, "0.1", terms=EVENT)
        person = start(model, "0.7")
        settle(model, 4)
        engine.gate.set()
        for future in (first, person, *events):
            assert future.result(10)


def test_a_full_queue_refuses_before_decoding_and_takes_work_again_afterwards() -> None:
    engine = ScriptedEngine()
    with running(engine, queue_size=2) as model, callers() as start:
        accepted = [held(engine, model, start), start(model, "0.1")]
        settle(model, 2)
        with pytest.raises(QueueFull), model.slot():
            pytest.fail("it got a place")
        engine.gate.set()
        for future in accepted:
            future.result(10)
        assert ask(model, "0.2").groundings


def test_a_caller_that_left_costs_nothing_more() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        with pytest.raises(CallerGone):
            ask(model, "0.4", terms=Terms(gone=lambda: True))
        engine.gate.set()
        first.result(10)
        ask(model, "0.2")
    assert ["0.4"] not in engine.batches
    assert all("0.4" not in batch for batch in engine.batches)


def test_a_caller_that_leaves_in_the_middle_costs_no_further_forward() -> None:
    engine = ScriptedEngine()
    with running(engine, prompt_batch=1) as model, callers() as start:
        engine.gate.clear()
        with pytest.raises(CallerGone):
            ask(model, "0.4", "0.5", terms=Terms(gone=engine.busy.is_set))
        engine.gate.set()
        start(model, "0.2").result(10)
    assert engine.batches == [["0.2"]]


def test_work_past_its_deadline_is_dropped() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
            ask(model, "0.4", terms=Terms(timeout_s=0.1))
        engine.gate.set()
        first.result(10)
        ask(model, "0.2")
    assert all("0.4" not in batch for batch in engine.batches)


def test_a_failing_request_fails_alone_in_a_shared_forward() -> None:
    engine = ScriptedEngine()
    with running(engine, image_batch=4, prompt_batch=8) as model, callers() as start:
        first = held(engine, model, start)
        bad, good = start(model, "0.1", "boom", "0.2"), start(model, "0.3", "0.4")
        settle(model, 3)
        engine.gate.set()
        with pytest.raises(RuntimeError, match="the kernel broke"):
            bad.result(10)
        assert scores(good.result(10)) == [0.3, 0.4]
        first.result(10)
        assert ask(model, "0.1").groundings


def test_out_of_memory_halves_the_batch_and_keeps_it_small() -> None:
    engine = ScriptedEngine(room=3)
    with running(engine, prompt_batch=8) as model:
        texts = [f"0.{n}" for n in range(1, 9)]
        assert scores(ask(model, *texts)) == [float(text) for text in texts]
        first = [len(batch) for batch in engine.batches]
        engine.batches.clear()
        ask(model, *texts)
    assert first == [8, 4, 2, 2, 4, 2, 2]
    assert [len(batch) for batch in engine.batches] == [2, 2, 2, 2]


def test_what_does_not_fit_alone_is_refused_with_a_retry() -> None:
    with running(ScriptedEngine(room=0)) as model, pytest.raises(OutOfMemory) as caught:
        ask(model, "0.1")
    assert (caught.value.status, caught.value.retryable) == (503, True)


def test_a_broken_engine_fails_what_waits_and_ends_the_thread_with_its_error() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        engine.gate.clear()
        waiting = [start(model, "lost"), start(model, "0.1")]
        settle(model, 2)
        engine.gate.set()
        for future in waiting:
            with pytest.raises(EngineBroken) as caught:
                future.result(10)
            assert caught.value.retryable
        assert isinstance(model.ended.exception(10), EngineBroken)
        assert model.state.phase == "failed"
        with pytest.raises(NotReady):
            ask(model, "0.1")


class Breaking(ScriptedEngine):
    """Breaks in the forward that the gate holds."""

    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        super().encode_image(images)
        raise EngineBroken("the device does not answer any more")


def test_what_arrives_during_the_forward_that_breaks_is_answered_too() -> None:
    engine = Breaking()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        arrived = start(model, "0.1")
        settle(model, 2)
        engine.gate.set()
        for future in (first, arrived):
            with pytest.raises(EngineBroken):
                future.result(10)


@pytest.mark.parametrize("fault", [NotFinite("NaN again"), OutOfMemory("none at all"), RuntimeError("what is this")])
@pytest.mark.parametrize(("phrase", "room"), [("odd", 1000), ("0.1", 0)])
def test_what_fails_alone_ends_the_thread_when_the_engine_s_own_request_fails_too(
    fault: Exception, phrase: str, room: int
) -> None:
    """A device that is broken silently, or full for good, is replaced; what waits, and what has failed, goes back."""
    engine = ScriptedEngine(room=room, fault=fault)
    with running(engine, image_batch=4) as model, callers() as start:
        engine.gate.clear()
        waiting = [start(model, phrase), start(model, "0.2")]
        settle(model, 2)
        engine.gate.set()
        for future in waiting:
            with pytest.raises(EngineBroken):
                future.result(10)
        ended = model.ended.exception(10)
        assert isinstance(ended, EngineBroken)
        assert str(fault) in ended.detail
        assert engine.checks == 1


def test_an_input_that_fails_alone_keeps_its_error_and_the_engine_goes_on() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        odd, good = start(model, "odd", "0.1"), start(model, "0.2")
        settle(model, 3)
        engine.gate.set()
        with pytest.raises(NotFinite):
            odd.result(10)
        assert scores(good.result(10)) == [0.2]
        first.result(10)
        with pytest.raises(RuntimeError):
            ask(model, "boom")
    assert engine.checks == 1


@pytest.mark.parametrize(("trusted_s", "checks"), [(60, 1), (0, 3)])
def test_a_stream_of_odd_inputs_has_the_engine_checked_now_and_then(trusted_s: float, checks: int) -> None:
    engine = ScriptedEngine()
    schedule = Schedule(1, 1)
    forwards = Forwards(engine, schedule, 1000, Pace(), trusted_s=trusted_s)
    for _ in range(3):
        work = Work(Task(PIXEL, (Phrase("odd"),), 0.5, 10), urgent=True)
        schedule.add(work)
        while step := schedule.next():
            forwards.run(step)
        assert isinstance(work.future.exception(0), NotFinite)
    assert engine.checks == checks


def test_an_idle_model_holds_nothing_of_the_last_request() -> None:
    """A mask is the largest thing that a request has."""
    with running(ScriptedEngine()) as model:
        answer = ask(model, "0.1")
        masks = weakref.ref(answer.groundings[0].mask_logits)
        del answer
        until = time.monotonic() + 5
        while masks() is not None:
            gc.collect()
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize("terms", [PERSON, Terms(gone=lambda: True), Terms(timeout_s=0)])
def test_nothing_of_a_failed_request_outlives_its_error(terms: Terms, eventually: Any) -> None:
    """A full collection may be hours away, and what a request has on the device is not the collector's to count."""
    works: list[weakref.ref[Work]] = []

    def fail(model: ModelThread) -> None:
        with model.slot(terms) as slot:
            try:
                slot.run(Task(slot.prepare(PIXEL), (Phrase("0.1"),), threshold=0.5, limit=10))
            finally:
                assert slot.work
                works.append(weakref.ref(slot.work))

    with running(ScriptedEngine(room=0)) as model, no_garbage_collector():
        with suppress(OutOfMemory, CallerGone, DeadlineExceeded):
            fail(model)
        eventually(lambda: works[0]() is None, 10)


def test_a_request_that_nobody_waits_for_lets_go_of_its_image(eventually: Any) -> None:
    engine = ScriptedEngine()
    with running(engine) as model:
        engine.gate.clear()
        with model.slot(Terms(gone=engine.busy.is_set)) as slot:
            with pytest.raises(CallerGone):
                slot.run(Task(slot.prepare(PIXEL), (Phrase("0.1"),), threshold=0.5, limit=10))
            work = slot.work
            assert work
            engine.gate.set()
            eventually(lambda: work.future.done() and work.image is None, 10)
            assert work.encode_s > 0


def test_a_request_that_fails_lets_go_of_what_it_has_found() -> None:
    work = Work(Task(PIXEL, tuple(map(Phrase, ["0.1", "0.2", "boom", "0.3"])), 0.5, 10), urgent=True)
    schedule = Schedule(1, 2)
    schedule.add(work)
    forwards = Forwards(ScriptedEngine(), schedule, 1000, Pace())
    while step := schedule.next():
        forwards.run(step)
    assert isinstance(work.future.exception(0), RuntimeError)
    assert (work.found, work.image, work.grounded) == ({}, None, 2)


def test_texts_are_encoded_once_and_the_least_recently_used_leave() -> None:
    engine = ScriptedEngine()
    with running(engine, text_cache_bytes=250) as model:  # room for two
        ask(model, "0.1", "0.2", "0.1")
        ask(model, "0.2", "0.1")
        ask(model, "0.3")
        ask(model, "0.1")
        ask(model, "0.2")
    assert engine.texts == [["0.1", "0.2"], ["0.3"], ["0.2"]]


def test_without_a_cache_texts_are_encoded_each_time() -> None:
    engine = ScriptedEngine()
    with running(engine, text_cache_bytes=0) as model:
        ask(model, "0.1", "0.1")
        ask(model, "0.1")
    assert engine.texts == [["0.1"], ["0.1"]]


def test_closing_finishes_what_was_accepted() -> None:
    engine = ScriptedEngine()
    with callers() as start, running(engine) as model:
        futures = [held(engine, model, start), start(model, "0.1"), start(model, "0.2")]
        settle(model, 3)
        closing = threading.Thread(target=model.close)
        closing.start()
        while not model._closing:
            time.sleep(0.01)
        with pytest.raises(NotReady):
            ask(model, "0.3")
        engine.gate.set()
        closing.join(10)
        assert all(future.result(0.1).groundings for future in futures)
        assert model.state.phase == "closed"
        assert model.ended.exception(1) is None


def test_nothing_is_accepted_before_the_model_is_ready_or_after_the_end() -> None:
    model = ModelThread(lambda report: ScriptedEngine())
    with pytest.raises(NotReady, match="starting"):
        ask(model, "0.1")
    with pytest.raises(NotReady):
        _ = model.info
    model.start().result(10)
    model.close()
    with pytest.raises(NotReady, match="closed"):
        ask(model, "0.1")


def test_a_failed_load_keeps_its_reason() -> None:
    def load(report: Callable[[Phase], None]) -> ScriptedEngine:
        report("loading")
        assert "weights are mapped" in model.state.reason
        with pytest.raises(NotReady, match=r"the model is not ready \(loading\): weights are mapped"):
            ask(model, "0.1")
        raise ModelUnavailable("SAM3_MODEL: no weights")

    model = ModelThread(load)
    with pytest.raises(ModelUnavailable):
        model.start().result(10)
    assert isinstance(model.ended.exception(10), ModelUnavailable)
    assert (model.state.phase, model.state.reason) == ("failed", "SAM3_MODEL: no weights")
    with pytest.raises(NotReady, match="no weights"):
        ask(model, "0.1")
    model.close()


def test_at_the_end_events_that_have_not_begun_go_back_and_the_rest_is_done() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        engine.gate.clear()
        running_event = start(model, "0.1", terms=EVENT)
        assert engine.busy.wait(10)
        waiting_event, person = start(model, "0.2", terms=EVENT), start(model, "0.7")
        settle(model, 3)
        model.drain(grace_s=60)
        with pytest.raises(Ending):  # while the engine still holds
            waiting_event.result(10)
        for terms in (PERSON, EVENT):
            with pytest.raises(Ending):
                ask(model, "0.3", terms=terms)
        engine.gate.set()
        assert scores(running_event.result(10)) == [0.1]
        assert scores(person.result(10)) == [0.7]
    assert [text for batch in engine.batches for text in batch if text in ("0.2", "0.3")] == []


def test_an_event_that_waits_for_a_place_goes_back_at_the_end() -> None:
    engine = ScriptedEngine()
    with running(engine, queue_size=1) as model, callers() as start:
        engine.gate.clear()
        first = start(model, "0.1", terms=EVENT)
        assert engine.busy.wait(10)
        waiting = start(model, "0.2", terms=Terms(urgent=False, wait_s=60))
        model.drain(grace_s=60)
        with pytest.raises(Ending):
            waiting.result(10)
        engine.gate.set()
        first.result(10)


def test_work_that_outlasts_the_grace_goes_back_while_the_engine_holds() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        model.drain(grace_s=0.05)
        with pytest.raises(Ending):
            first.result(10)
        assert not engine.gate.is_set()


def test_a_second_call_to_end_gives_no_more_time() -> None:
    engine = ScriptedEngine()
    with running(engine) as model, callers() as start:
        first = held(engine, model, start)
        model.drain(grace_s=0.05)
        model.drain(grace_s=60)
        with pytest.raises(Ending):
            first.result(10)


def late(found: int, own_ground_s: float, alone_s: float) -> ServiceError:
    work = Work(Task(PIXEL, tuple(map(Phrase, "abcd")), 0.5, 10), urgent=False, alone_s=alone_s)
    nothing = Grounding(np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 2, 2), np.float32))
    for index in range(found):
        work.add(index, nothing)
    work.own_encode_s, work.own_ground_s = 2, own_ground_s
    return work.late()


def test_late_work_is_too_long_only_if_it_would_have_been_late_alone() -> None:
    """2 s for the image, 3 s for each of two prompts: all four would take 14 s."""
    assert isinstance(late(found=2, own_ground_s=6, alone_s=13), TooLong)
    assert isinstance(late(found=2, own_ground_s=6, alone_s=15), DeadlineExceeded)
    assert isinstance(late(found=0, own_ground_s=0, alone_s=13), DeadlineExceeded)
    detail = late(found=2, own_ground_s=6, alone_s=13).detail
    assert detail.startswith("prompts: 4 on this image take at least 14 s on this device; an event has 13 s")


def test_shared_forwards_count_for_each_work_by_its_share() -> None:
    schedule = Schedule(image_batch=2, prompt_batch=4)
    forwards = Forwards(ScriptedEngine(), schedule, 1000, Pace())
    works = [Work(Task(PIXEL, tuple(map(Phrase, texts)), 0.5, 10), urgent=True) for texts in (["0.1"], ["0.2"] * 3)]
    for work in works:
        schedule.add(work)
    while step := schedule.next():
        forwards.run(step)
    assert [work.own_ground_s / work.ground_s for work in works] == pytest.approx([1 / 4, 3 / 4])
    assert [work.own_encode_s / work.encode_s for work in works] == pytest.approx([1 / 2, 1 / 2])


def test_the_best_of_the_last_forwards_counts() -> None:
    pace = Pace()
    pace.encoded(2, 4.0)
    assert pace.estimate_s(3) is None
    pace.grounded(1, 9.0)
    pace.grounded(4, 2.0)
    pace.encoded(1, 60.0)
    assert pace.estimate_s(10) == 2.0 + 10 * 0.5


def test_a_forward_that_fails_is_no_measure() -> None:
    engine = ScriptedEngine()
    with running(engine) as model:
        with pytest.raises(RuntimeError):
            ask(model, "boom")
        assert model.estimate_s(1) is None
        ask(model, "0.1")
        assert model.estimate_s(1) is not None


def test_while_masks_fill_the_memory_nothing_is_begun_that_could_find_any_number() -> None:
    """An event has to wait for those who make masks, also one that came first; a person with a limit has not."""
    engine = ScriptedEngine()
    with running(engine, mask_bytes=16) as model, callers() as start:
        with model.slot(EVENT) as slot:
            slot.run(Task(slot.prepare(PIXEL), (Phrase("0.1"),), threshold=0.5, limit=10))
            event = start(model, "0.2", terms=EVENT)
            settle(model, 1)
            for text in ("0.3", "0.4"):
                assert scores(start(model, text, terms=Terms(max_total=10)).result(10)) == [float(text)]
            assert engine.batches == [["0.1"], ["0.3"], ["0.4"]]
        assert scores(event.result(10)) == [0.2]


def test_what_waits_for_memory_still_ends_in_time() -> None:
    engine = ScriptedEngine()
    with running(engine, mask_bytes=16) as model, callers() as start, model.slot(EVENT) as slot:
        slot.run(Task(slot.prepare(PIXEL), (Phrase("0.1"),), threshold=0.5, limit=10))
        late = start(model, "0.2", terms=replace(EVENT, timeout_s=0.3))
        with pytest.raises(DeadlineExceeded):
            late.result(10)
        settle(model, 0)


def test_what_has_found_too_much_is_refused_and_lets_go_of_it() -> None:
    work = Work(Task(PIXEL, tuple(map(Phrase, ["0.1", "0.2", "0.3"])), 0.5, 10, max_total=1), urgent=True)
    schedule = Schedule(1, 2)
    schedule.add(work)
    forwards = Forwards(ScriptedEngine(), schedule, 1000, Pace())
    while step := schedule.next():
        forwards.run(step)
    with pytest.raises(TooManyInstances, match="2 instances were found; an answer holds at most 1"):
        work.future.result(0)
    assert not work.found
