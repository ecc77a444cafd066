"""A whole request with 1, 4 and 16 prompts, and what text costs on the second image."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from service.core.documents import rendered, segmentation_document
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.engine.base import Engine
from service.engine.segmenter import Segmenter
from tools.bench import engines, models
from tools.bench.baseline import OneFileService
from tools.bench.cell import answer, run_cell
from tools.bench.decode import baseline_decode
from tools.bench.finds import choose_threshold, same_finds
from tools.bench.inputs import PROMPTS, SIZE_1MP_HW, encoded, photo
from tools.bench.plan import Plan
from tools.bench.report import Check, Pairs, Section, Target
from tools.clocked import Clocked

_METHOD = (
    "A 1 MP JPEG to JSON with masks and contours, on {model}; the threshold lets a few prompts find several instances "
    "and the others none. Every repetition begins with empty caches. “Second image” is "
    "the same prompts again on another image: how much of the request is spent on text."
)


def measure(plan: Plan) -> list[Section]:
    """Rows for each number of prompts, for the model's part of it, and for text on a second image."""
    checkpoint = models.embedded() if plan.quick else models.medium(plan.cache)
    counts = plan.pick((1, 4, 16), (1, 4))
    taken = {count: _pairs(checkpoint, count, plan.pick(5 if count < 16 else 3, 1)) for count in counts}
    rows = []
    for count, pairs in taken.items():
        name = f"{count} prompt{'s' * (count > 1)}"
        rows.append(pairs.row(name, "total_s", "ms", Target(0.7) if count == 16 else None, 1000))
        rows.append(pairs.row(f"{name}, the model alone", "model_s", "ms", None, 1000))
    most = taken[counts[-1]]
    rows.append(most.row("second image: share of text", "text_share", "%", Target(1, of="ours"), 100))
    checks = [_same(count, pairs) for count, pairs in taken.items()]
    method = _METHOD.format(model="the embedded model" if plan.quick else "random weights of medium size")
    return [Section("Prompts", method, tuple(rows), tuple(checks))]


def _pairs(checkpoint: models.Checkpoint, count: int, repeats: int) -> Pairs:
    samples = run_cell("prompts", folder=str(checkpoint.folder), count=count, repeats=repeats)
    return Pairs(samples["baseline"], samples["ours"])


def _same(count: int, pairs: Pairs) -> Check:
    answers = zip(pairs.baseline, pairs.ours, strict=True)
    return Check(f"{count} prompts: identical finds", all(same_finds(a["results"], b["results"]) for a, b in answers))


def several(folder: str, count: int, repeats: int) -> dict[str, Any]:
    """All repetitions of both sides in turn in this process, after a prompt each that does not count."""
    engine = engines.load(Path(folder))
    threshold = choose_threshold(engine, photo(SIZE_1MP_HW, seed=1))
    theirs = OneFileService.load(Path(folder), "cpu", torch.float32)
    samples: dict[str, list[dict[str, Any]]] = {"baseline": [], "ours": []}
    images = [encoded(photo(SIZE_1MP_HW, seed=seed)) for seed in (1, 2)]
    for repeat in range(repeats + 1):
        prompts = PROMPTS[: count if repeat else 1]
        samples["baseline"].append(_baseline(theirs, images, prompts, threshold))
        samples["ours"].append(_ours(engine, images, prompts, threshold))
    return {side: taken[1:] for side, taken in samples.items()}


def _baseline(
    service: OneFileService, images: Sequence[bytes], prompts: Sequence[str], threshold: float
) -> dict[str, Any]:
    model_s, start = service.model_s, time.perf_counter()
    body = service.segment(baseline_decode(images[0]), prompts, threshold)
    total_s, model_s = time.perf_counter() - start, service.model_s - model_s
    text_s, start = service.text_s, time.perf_counter()
    service.segment(baseline_decode(images[1]), prompts, threshold)
    share = (service.text_s - text_s) / (time.perf_counter() - start)
    return {"total_s": total_s, "model_s": model_s, "text_share": share, "results": json.loads(body)["results"]}


def _ours(
    engine: Engine[Any, Any], images: Sequence[bytes], prompts: Sequence[str], threshold: float
) -> dict[str, Any]:
    clock = Clocked(engine)
    with engines.serving(lambda: clock) as segmenter:
        start = time.perf_counter()
        body = answer_body(segmenter, images[0], prompts, threshold)
        total_s, model_s = time.perf_counter() - start, clock.read().busy_s
        text_s, start = clock.read().text_s, time.perf_counter()
        answer_body(segmenter, images[1], prompts, threshold)
        share = (clock.read().text_s - text_s) / (time.perf_counter() - start)
    return {"total_s": total_s, "model_s": model_s, "text_share": share, "results": json.loads(body)["results"]}


def answer_body(segmenter: Segmenter, data: bytes, prompts: Sequence[str], threshold: float) -> bytes:
    """The direct door's answer with masks and contours, without the door."""
    options = Options(threshold=threshold, return_masks=True, return_contours=True)
    prompt_set = PromptSet(tuple(Prompt(text) for text in prompts), options)
    document = segmentation_document(segmenter.segment(data, prompt_set), options)
    return rendered(document)


if __name__ == "__main__":
    answer(several)
