"""An engine for tests that stage a time or a fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from service.core.results import ModelInfo
from service.engine.base import Grounding, Query


class ScriptedEngine:
    """Finds nothing, after whatever the test has staged for a forward, which is told its number of prompts."""

    info = ModelInfo("scripted", "1", "cpu", "float32")

    def __init__(self, before: Callable[[int], None] = lambda prompts: None) -> None:
        self.before = before
        self.inferences = 0
        self.busy = threading.Event()

    def prepare(self, image: Any) -> Any:
        return image

    def encode_image(self, images: Sequence[Any]) -> list[str]:
        return ["image" for _ in images]

    def encode_text(self, texts: Sequence[str]) -> list[Any]:
        return [np.array(text) for text in texts]

    def ground(self, queries: Sequence[Query[str, Any]]) -> list[Grounding]:
        self.inferences += len(queries)
        self.busy.set()
        self.before(len(queries))
        nothing = np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 2, 2), np.float32)
        return [Grounding(*nothing) for _ in queries]
