"""Timing and faults are staged with a scripted engine; what it computes does not matter here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from service.core.results import ModelInfo
from service.engine.base import Exemplar, Grounding, Phrase, Query
from service.engine.batcher import ModelThread, Task
from service.errors import ModelUnavailable, NotReady, QueueFull

PIXEL = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class EncodedText:
    text: str
    nbytes: int = 100


class ScriptedEngine:
    """Answers each phrase with one instance whose score is the phrase's number; `gate` holds it back."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.threads: set[str] = set()
        self.batches: list[int] = []
        self.exemplars: list[tuple[Exemplar, ...]] = []

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("scripted", "1", "cpu", "float32")

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image

    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        self.threads.add(threading.current_thread().name)
        self.busy.set()
        assert self.gate.wait(30)
        return ["image" for _ in images]

    def encode_text(self, texts: Sequence[str]) -> list[EncodedText]:
        return [EncodedText(text) for text in texts]

    def ground(self, queries: Sequence[Query[str, EncodedText]]) -> list[Grounding]:
        self.batches.append(len(queries))
        self.exemplars += [query.exemplars for query in queries]
        if any(query.text.text == "boom" for query in queries):
            raise RuntimeError("the kernel broke")
        scores = [np.array([float(query.text.text)], np.float32) for query in queries]
        return [Grounding(score, np.zeros((1, 4), np.float32), np.zeros((1, 2, 2), np.float32)) for score in scores]


def task(*texts: str) -> Task:
    return Task(PIXEL, tuple(map(Phrase, texts)), threshold=0.5, limit=10)


@contextmanager
def running(engine: ScriptedEngine, queue_size: int = 4, prompt_batch: int = 4) -> Iterator[ModelThread]:
    model = ModelThread(lambda report: engine, queue_size=queue_size, prompt_batch=prompt_batch)
    model.start().result(10)
    try:
        yield model
    finally:
        engine.gate.set()
        model.close()


def test_answers_in_the_order_of_the_phrases_in_bounded_batches() -> None:
    engine = ScriptedEngine()
    with running(engine, prompt_batch=2) as model:
        answer = model.submit(task("0.5", "0.4", "0.3", "0.2", "0.1")).result(10)
    assert [round(float(g.scores[0]), 1) for g in answer.groundings] == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert engine.batches == [2, 2, 1]


def test_exemplars_stay_with_their_phrase() -> None:
    engine = ScriptedEngine()
    groups = [(), (Exemplar((0, 0, 1, 1)),), (), (Exemplar((0, 0, 0.5, 1)), Exemplar((0, 0, 1, 1), positive=False))]
    phrases = tuple(Phrase("0.5", group) for group in groups)
    with running(engine, prompt_batch=3) as model:
        model.submit(Task(PIXEL, phrases, threshold=0.5, limit=10)).result(10)
    assert engine.exemplars == groups


def test_one_thread_runs_everything() -> None:
    engine = ScriptedEngine()
    with running(engine, queue_size=32) as model:
        for future in [model.submit(task("0.1")) for _ in range(20)]:
            future.result(10)
    assert len(engine.threads) == 1


def test_a_full_queue_refuses_at_once_and_takes_work_again_afterwards() -> None:
    engine = ScriptedEngine()
    with running(engine, queue_size=2) as model:
        engine.gate.clear()
        accepted = [model.submit(task("0.1")) for _ in range(2)]
        with pytest.raises(QueueFull):
            model.submit(task("0.1"))
        engine.gate.set()
        for future in accepted:
            future.result(10)
        assert model.submit(task("0.2")).result(10).groundings


def test_a_failing_task_fails_alone() -> None:
    with running(ScriptedEngine()) as model:
        with pytest.raises(RuntimeError, match="the kernel broke"):
            model.submit(task("boom")).result(10)
        assert model.submit(task("0.1")).result(10).groundings


def test_closing_finishes_what_was_accepted() -> None:
    engine = ScriptedEngine()
    with running(engine) as model:
        engine.gate.clear()
        futures = [model.submit(task("0.1")) for _ in range(3)]
        assert engine.busy.wait(10)
    assert all(future.result(0).groundings for future in futures)
    assert model.state.phase == "closed"


def test_nothing_is_accepted_before_the_model_is_ready_or_after_the_end() -> None:
    model = ModelThread(lambda report: ScriptedEngine(), queue_size=1, prompt_batch=1)
    with pytest.raises(NotReady, match="starting"):
        model.submit(task("0.1"))
    with pytest.raises(NotReady):
        _ = model.info
    model.start().result(10)
    model.close()
    with pytest.raises(NotReady, match="closed"):
        model.submit(task("0.1"))


def test_a_failed_load_keeps_its_reason() -> None:
    def load(report: Callable[[str], None]) -> ScriptedEngine:
        report("loading")
        raise ModelUnavailable("SAM3_MODEL: no weights")

    model = ModelThread(load, queue_size=1, prompt_batch=1)
    with pytest.raises(ModelUnavailable):
        model.start().result(10)
    assert (model.state.phase, model.state.reason) == ("failed", "SAM3_MODEL: no weights")
    with pytest.raises(NotReady, match="no weights"):
        model.submit(task("0.1"))
    model.close()
