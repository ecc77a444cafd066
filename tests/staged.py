"""Real segmenters over the scripted engine, in every phase that a model can be in."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from service.core.observe import SILENT, Observer
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.segmenter import Segmenter
from service.engine.state import Phase
from service.errors import ModelUnavailable
from tests.scripted import ScriptedEngine

POLICY = BatchPolicy(prompt_batch=4)
WAIT_S = 60


def picture(side: int = 1) -> bytes:
    """A black PNG of so many pixels a side."""
    data = io.BytesIO()
    Image.new("RGB", (side, side)).save(data, "PNG")
    return data.getvalue()


@contextmanager
def running(model: ModelThread, observer: Observer = SILENT) -> Iterator[Segmenter]:
    """A segmenter on a model that is ready."""
    model.start().result(WAIT_S)
    try:
        yield Segmenter(model, ImageLimits(), observer)
    finally:
        model.close()


@contextmanager
def segmenter_of(
    engine: ScriptedEngine, policy: BatchPolicy = POLICY, observer: Observer = SILENT
) -> Iterator[Segmenter]:
    """A segmenter on an engine that is ready."""
    with running(ModelThread(lambda report: engine, policy), observer) as segmenter:
        yield segmenter


def unstarted_segmenter() -> Segmenter:
    """One that nobody may get to: its model is never loaded."""
    return Segmenter(ModelThread(lambda report: pytest.fail("not started")), ImageLimits())


@contextmanager
def segmenter_in(phase: Phase) -> Iterator[Segmenter]:
    """A segmenter whose model is in that phase for as long as the block lasts."""
    reached, go_on = threading.Event(), threading.Event()

    def load(report: Callable[[Phase], None]) -> ScriptedEngine:
        if phase == "failed":
            raise ModelUnavailable("no such folder")
        if phase not in ("ready", "closed"):
            report(phase)
            reached.set()
            assert go_on.wait(WAIT_S)
        return ScriptedEngine()

    model = ModelThread(load)
    loaded = model.start()
    if phase == "failed":
        assert model.ended.exception(WAIT_S)
    elif phase in ("ready", "closed"):
        loaded.result(WAIT_S)
    else:
        assert reached.wait(WAIT_S)
    if phase == "closed":
        model.close()
    try:
        assert model.state.phase == phase
        yield Segmenter(model, ImageLimits())
    finally:
        go_on.set()
        loaded.exception(WAIT_S)
        model.close()
