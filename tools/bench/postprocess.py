"""From mask logits to JSON: masks, RLE, contours, text; time, and memory beyond what was there before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from service.core import masks as core
from service.core.documents import rendered
from tools.bench import baseline, rss
from tools.bench.cell import answer, in_turn, run_cell
from tools.bench.inputs import SIZE_12MP_HW, object_logits
from tools.bench.plan import Plan
from tools.bench.report import Check, Pairs, Row, Section, Target

_MIB = 2**20
_MB = 10**6
_METHOD = (
    "Mask logits at 288 × 288, one wobbly ellipse each, to masks of {height} × {width}, their RLE and contours, and "
    "JSON. Each repetition is a process of its own; memory is the peak above what was resident before."
)
T = TypeVar("T")


def measure(plan: Plan) -> list[Section]:
    """The whole of it for each count of instances, the stages of the first, and what one more instance takes."""
    size_hw = plan.pick(SIZE_12MP_HW, (300, 400))
    counts = plan.pick((50, 100), (3, 6))
    taken = {count: _pairs(count, size_hw, plan.pick(3 if count == counts[0] else 1, 1)) for count in counts}
    first, second = counts
    rows = [*_whole(first, taken[first], judged=True), *_stages(taken[first]), *_whole(second, taken[second])]
    rows.append(_growth(taken[first], taken[second], second - first))
    checks = [_same(count, pairs) for count, pairs in taken.items()]
    method = _METHOD.format(height=size_hw[0], width=size_hw[1])
    return [Section("Post-processing", method, tuple(rows), tuple(checks))]


def _pairs(count: int, size_hw: tuple[int, int], repeats: int) -> Pairs:
    def one(side: str) -> dict[str, Any]:
        return run_cell("postprocess", side=side, count=count, size_hw=size_hw)

    return in_turn(one, repeats)


def _whole(count: int, pairs: Pairs, *, judged: bool = False) -> list[Row]:
    time_target, memory_target = (Target(1 / 30), Target(1 / 50)) if judged else (None, None)
    return [
        pairs.row(f"{count} instances", "total_s", "s", time_target),
        pairs.row(f"{count} instances, extra memory", "extra_bytes", "MiB", memory_target, 1 / _MIB),
    ]


def _stages(pairs: Pairs) -> list[Row]:
    stages = {"masks_s": "masks", "rle_s": "RLE", "contours_s": "contours", "json_s": "JSON text"}
    return [pairs.row(f"of that: {name}", key, "ms", scale=1000) for key, name in stages.items()]


def _growth(few: Pairs, many: Pairs, further: int) -> Row:
    def each(part: str) -> float:
        [low], [high] = ([min(s["extra_bytes"] for s in getattr(pairs, part))] for pairs in (few, many))
        return float(high - low) / further / _MB

    return Row("memory of one more instance", each("ours"), "MB", each("baseline"), None, Target(5, of="ours"))


def _same(count: int, pairs: Pairs) -> Check:
    return pairs.same(f"{count} instances: identical RLE and contours", "rle_sha", "contours_sha")


def one(side: str, count: int, size_hw: tuple[int, int]) -> dict[str, Any]:
    """One repetition in this process."""
    steps = _OURS if side == "ours" else _BASELINE
    _run(steps, object_logits(2), (64, 48))  # libraries set themselves up on their first call
    logits = object_logits(count)
    before = rss.resident()
    rss.reset_peak()
    sample = _run(steps, logits, (size_hw[0], size_hw[1]))
    return sample | {"extra_bytes": max(0, rss.peak() - before)}


Steps = tuple[
    Callable[[NDArray[np.float32], tuple[int, int]], Any],
    Callable[[Any], list[dict[str, Any]]],
    Callable[[Any], list[Any]],
    Callable[[Any], str | bytes],
]


def _run(steps: Steps, logits: NDArray[np.float32], size_hw: tuple[int, int]) -> dict[str, Any]:
    to_masks, to_rle, to_contours, to_text = steps
    masks, masks_s = _timed(lambda: to_masks(logits, size_hw))
    rle, rle_s = _timed(lambda: to_rle(masks))
    contours, contours_s = _timed(lambda: to_contours(masks))
    _, json_s = _timed(lambda: to_text({"results": [{"masks_rle": rle, "contours": contours}]}))
    return {
        "masks_s": masks_s,
        "rle_s": rle_s,
        "contours_s": contours_s,
        "json_s": json_s,
        "total_s": masks_s + rle_s + contours_s + json_s,
        "rle_sha": _sha(rle),
        "contours_sha": _sha(contours),
    }


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def _sha(value: Any) -> str:
    text = json.dumps(value, default=np.ndarray.tolist)
    return hashlib.sha256(text.encode()).hexdigest()


_OURS: Steps = (
    core.crop_masks,
    lambda masks: [core.rle(mask) for mask in masks],
    lambda masks: [core.rings(mask) for mask in masks],
    rendered,
)
_BASELINE: Steps = (
    lambda logits, size_hw: baseline.full_frames(torch.from_numpy(logits), size_hw),
    baseline.rles,
    baseline.contours,
    json.dumps,
)

if __name__ == "__main__":
    answer(one)
