"""From pixels to JSON: the engine and our post-processing, and the one-file service on the same device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.core.masks import crop_masks, rings, rle
from service.engine.base import Grounding, Query
from service.engine.sam3 import Sam3Engine
from tools.bench import baseline
from tools.bench.card.cells import Cell, Scale
from tools.bench.card.stopwatch import Stopwatch
from tools.bench.card.variants import Loaded
from tools.bench.inputs import PROMPTS, SIZE_1MP_HW, object_logits, photo

Rgb = NDArray[np.uint8]
_GROUND_TOGETHER = 8


def ours(loaded: Loaded, stopwatch: Stopwatch, scale: Scale, threshold: float) -> Iterator[Cell]:
    """1 MP images to JSON with masks and contours, for each number of images and of prompts to each."""
    rgb = photo(SIZE_1MP_HW)
    for images in scale.images:
        for prompts in scale.prompts:
            measured = stopwatch.measure(
                lambda images=images, prompts=prompts: segment(  # type: ignore[misc]
                    loaded.engine, [rgb] * images, PROMPTS[:prompts], threshold
                )
            )
            yield Cell("end to end", loaded.variant.name, images, prompts, measured)


def theirs(loaded: Loaded, stopwatch: Stopwatch, scale: Scale, threshold: float) -> Iterator[Cell]:
    """The baseline on the same model: it takes one image at a time."""
    service = baseline.OneFileService(loaded.model, loaded.tokenizer)
    rgb = photo(SIZE_1MP_HW)
    for prompts in scale.prompts:
        measured = stopwatch.measure(lambda prompts=prompts: service.segment(rgb, PROMPTS[:prompts], threshold))  # type: ignore[misc]
        yield Cell("baseline, end to end", loaded.variant.name, 1, prompts, measured)


def segment(engine: Sam3Engine, images: Sequence[Rgb], prompts: Sequence[str], threshold: float) -> list[bytes]:
    """The JSON of each image; texts are encoded once for all, as they would not be again in a running service."""
    encoded = engine.encode_image([engine.prepare(image) for image in images])
    texts = engine.encode_text(prompts)
    queries = [Query(image, text, threshold, 200) for image in encoded for text in texts]
    found = [each for part in _parts(queries) for each in engine.ground(part)]
    shares = [found[i : i + len(prompts)] for i in range(0, len(found), len(prompts))]
    return [_answer(image, prompts, share) for image, share in zip(images, shares, strict=True)]


def _parts(queries: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(queries), _GROUND_TOGETHER):
        yield queries[start : start + _GROUND_TOGETHER]


def _answer(image: Rgb, prompts: Sequence[str], found: Sequence[Grounding]) -> bytes:
    size_hw = (image.shape[0], image.shape[1])
    scale = np.array([size_hw[1], size_hw[0]] * 2)
    results = [_result(text, each, size_hw, scale) for text, each in zip(prompts, found, strict=True)]
    return json.dumps({"results": results}, separators=(",", ":"), default=np.ndarray.tolist).encode()


def _result(text: str, found: Grounding, size_hw: tuple[int, int], scale: NDArray[Any]) -> dict[str, Any]:
    masks = crop_masks(found.mask_logits, size_hw)
    return {
        "label": text,
        "boxes": (found.boxes * scale).tolist(),
        "scores": found.scores.tolist(),
        "masks_rle": [rle(mask) for mask in masks],
        "contours": [rings(mask) for mask in masks],
    }


def postprocessing(device: torch.device, stopwatch: Stopwatch, count: int, size_hw: tuple[int, int]) -> Iterator[Cell]:
    """Masks, RLE and contours of so many instances: ours from the host's logits, the baseline's from the device's."""
    logits = object_logits(count)
    on_device = torch.from_numpy(logits).to(device)

    def our_way() -> object:
        return [(rle(mask), rings(mask)) for mask in crop_masks(logits, size_hw)]

    def their_way() -> object:
        masks = baseline.full_frames(on_device, size_hw)
        return baseline.rles(masks), baseline.contours(masks)

    name = f"{count} masks of {size_hw[0]} × {size_hw[1]}"
    yield Cell(name, "ours", 1, 0, stopwatch.measure(our_way))
    yield Cell(name, "baseline", 1, 0, stopwatch.measure(their_way))
