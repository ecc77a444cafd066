"""An engine for tests that stage a time or a fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.core.results import ModelInfo
from service.engine.base import Grounding, Query


class ScriptedEngine:
    """Answers after whatever the test has staged for a forward, which is told its number of prompts.

    It finds so many instances of each prompt, side by side; those of all prompts are at the same places, with the same
    `mask` (h, w) of logits.
    """

    info = ModelInfo("scripted", "1", "cpu", "float32")

    def __init__(
        self,
        before: Callable[[int], None] = lambda prompts: None,
        instances: int = 0,
        mask: NDArray[Any] = np.ones((2, 2), np.float32),  # noqa: B008 - nobody writes into it
    ) -> None:
        self.before = before
        self._instances = instances
        self._mask = mask
        self.inferences = 0
        self.busy = threading.Event()

    def check(self) -> None:
        pass

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
        count = self._instances
        left = np.arange(count, dtype=np.float32) / max(count, 1)
        boxes = np.stack([left, np.zeros_like(left), left + 1 / max(count, 1), np.ones_like(left)], axis=1)
        masks = np.broadcast_to(self._mask, (count, *self._mask.shape))
        found = np.full(count, 0.9, np.float32), boxes.astype(np.float32), masks
        return [Grounding(*found) for _ in queries]
