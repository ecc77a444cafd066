"""The parts of the model, each alone: vision, text, grounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from service.engine.base import Query
from tools.bench.card.stopwatch import Measured, Stopwatch
from tools.bench.card.variants import Loaded
from tools.bench.inputs import PROMPTS, SIZE_1MP_HW, photo


@dataclass(frozen=True)
class Scale:
    """How many images and prompts are taken at a time; `grounds`: prompts in one forward of grounding."""

    images: tuple[int, ...] = (1, 4, 8)
    prompts: tuple[int, ...] = (1, 4, 16)
    grounds: tuple[int, ...] = (1, 4, 8, 16, 32)


TRIAL = Scale(images=(1, 2), prompts=(1, 4), grounds=(1, 4))
"""Enough to see on a CPU that everything works."""


@dataclass(frozen=True)
class Cell:
    """One figure: a `part` in a `variant`, for so many images and prompts at a time.

    tflop_s: operations a second, in 10^12. of_ceiling: their share of what one large matrix product reaches.
    """

    part: str
    variant: str
    images: int
    prompts: int
    measured: Measured
    tflop_s: float | None = None
    of_ceiling: float | None = None

    @property
    def ms_each(self) -> float | None:
        """Milliseconds for one image, or one prompt where prompts are what is counted."""
        ms, items = self.measured.ms, self.prompts if self.part in ("text", "grounding") else self.images
        return None if ms is None else ms / max(1, items)

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        row = asdict(self)
        measured: dict[str, Any] = row.pop("measured")
        return row | measured | {"ms_each": self.ms_each}


def vision(loaded: Loaded, stopwatch: Stopwatch, scale: Scale, flops: int, ceiling: float | None) -> Iterator[Cell]:
    """`get_vision_features` alone, on pixels that are on the device already."""
    model = loaded.model
    side = model.config.vision_config.backbone_config.image_size
    for batch in scale.images:
        pixels = torch.zeros(batch, 3, side, side, device=model.device, dtype=model.dtype)

        @torch.inference_mode()
        def call(pixels: torch.Tensor = pixels) -> object:
            return model.get_vision_features(pixels)

        measured = stopwatch.measure(call)
        rate = flops * batch / (measured.ms / 1000) if measured.ms else None
        yield Cell(
            "vision",
            loaded.variant.name,
            batch,
            0,
            measured,
            tflop_s=rate and rate / 1e12,
            of_ceiling=rate / ceiling if rate and ceiling else None,
        )


def text(loaded: Loaded, stopwatch: Stopwatch, scale: Scale) -> Iterator[Cell]:
    """`encode_text`: tokenizer, encoder, projection."""
    for count in scale.prompts:
        measured = stopwatch.measure(lambda count=count: loaded.engine.encode_text(PROMPTS[:count]))  # type: ignore[misc]
        yield Cell("text", loaded.variant.name, 0, count, measured)


def grounding(loaded: Loaded, stopwatch: Stopwatch, scale: Scale, threshold: float) -> Iterator[Cell]:
    """`ground` for so many prompts in one forward; few of them find anything, and the mask head runs for those."""
    engine = loaded.engine
    [image] = engine.encode_image([engine.prepare(photo(SIZE_1MP_HW))])
    texts = engine.encode_text(PROMPTS)
    for count in scale.grounds:
        queries = [Query(image, texts[i % len(texts)], threshold, 200) for i in range(count)]
        measured = stopwatch.measure(lambda queries=queries: engine.ground(queries))  # type: ignore[misc]
        yield Cell("grounding", loaded.variant.name, 1, count, measured)


def encode_image(loaded: Loaded, stopwatch: Stopwatch, scale: Scale) -> Iterator[Cell]:
    """`encode_image`: upload, vision, and the geometry encoder's CLS token."""
    engine = loaded.engine
    square: np.ndarray[Any, Any] = engine.prepare(photo(SIZE_1MP_HW))
    for batch in scale.images:
        measured = stopwatch.measure(lambda batch=batch: engine.encode_image([square] * batch))  # type: ignore[misc]
        yield Cell("encode_image", loaded.variant.name, batch, 0, measured)
