"""The embedded model as demo and tests meet it: one image and one prompt on one core."""

from __future__ import annotations

import os
from typing import Any

import torch

from tools.bench import models
from tools.bench.cell import answer, run_cell
from tools.bench.finds import same_finds
from tools.bench.plan import Plan
from tools.bench.prompts import several
from tools.bench.report import Check, Pairs, Section, Target

_METHOD = (
    "A 1 MP JPEG and one prompt to JSON with masks and contours, on the embedded model, in a process that may use one "
    "core. Every repetition begins with empty caches."
)
_MOST_MS = 80


def measure(plan: Plan) -> list[Section]:
    """One row for the request and one for the model's part of it."""
    samples = run_cell("embedded", repeats=plan.pick(25, 2))
    pairs = Pairs(samples["baseline"], samples["ours"])
    rows = (
        pairs.row("1 prompt", "total_s", "ms", Target(_MOST_MS, of="ours"), 1000),
        pairs.row("1 prompt, the model alone", "model_s", "ms", None, 1000),
    )
    answers = zip(pairs.baseline, pairs.ours, strict=True)
    same = all(same_finds(theirs["results"], ours["results"]) for theirs, ours in answers)
    return [Section("The embedded model on one core", _METHOD, rows, (Check("identical finds", same),))]


def on_one_core(repeats: int) -> dict[str, Any]:
    """Repetitions of both sides in turn, in this process, of which every thread to come stays on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    return several(str(models.embedded().folder), 1, repeats)


if __name__ == "__main__":
    answer(on_one_core)
