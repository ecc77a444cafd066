"""The service around a model that only sleeps.

    gunicorn -c python:service.gunicorn_conf 'tools.staged:create_app()'

Both doors, the model's thread and everything between them are the service's own. /bench/clock tells how long the
engine has worked. BENCH_BATCH_MS is how long one batch takes, BENCH_LOAD_S how long the model loads (0), BENCH_SIDE the
side of its square (1008).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from flask import Flask
from numpy.typing import NDArray

from service import app as service_app
from service.core.results import ModelInfo
from service.engine.base import Grounding, Query
from tools.bench.inputs import object_logits
from tools.clocked import Clocked

STAGED = ("-m", "gunicorn", "-c", "python:service.gunicorn_conf", "tools.staged:create_app()")
"""The arguments of a Python that serves it."""
_SIDE = "1008"


@dataclass(frozen=True)
class _Phrase:
    text: str
    nbytes: int = 32 * 256 * 4


class StagedEngine:
    """Finds one small object for each prompt, `batch_s` after it was asked; all else takes no time."""

    def __init__(self, batch_s: float, side: int) -> None:
        # Whoever starts this server imports STAGED, and needs no torch.
        from service.engine.pixels import resize_to_square

        self._resize = resize_to_square
        self._batch_s = batch_s
        self._side = side
        box = np.array([[0.4, 0.4, 0.5, 0.5]], np.float32)
        self._found = Grounding(np.array([0.9], np.float32), box, object_logits(1))

    @property
    def info(self) -> ModelInfo:
        """Nobody's."""
        return ModelInfo("staged", "1", "cpu", "float32")

    def check(self) -> None:
        """Never broken."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As the real one does it: this is work of the web threads."""
        return self._resize(image, self._side)

    def encode_image(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """One nothing for each."""
        return ["image" for _ in images]

    def encode_text(self, texts: Sequence[str]) -> list[_Phrase]:
        """Each phrase as it is."""
        return [_Phrase(text) for text in texts]

    def ground(self, queries: Sequence[Query[str, _Phrase]]) -> list[Grounding]:
        """Sleep, whatever their number; sleeping leaves the processors to others, as a GPU would."""
        time.sleep(self._batch_s)
        return [self._found for _ in queries]


def create_app() -> Flask:
    """The service's own app with this engine, and one route more."""
    env = os.environ
    clock = Clocked(StagedEngine(int(env["BENCH_BATCH_MS"]) / 1000, int(env.get("BENCH_SIDE", _SIDE))))
    app = service_app.from_environment(lambda report: _load(clock))
    app.add_url_rule("/bench/clock", view_func=lambda: asdict(clock.read()), endpoint="clock")
    return app


def _load(clock: Clocked) -> Clocked:
    time.sleep(float(os.environ.get("BENCH_LOAD_S", "0")))
    return clock
