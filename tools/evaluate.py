"""`sam3 evaluate`: how well the model does on held-out scenes, through the service's own segmenter."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.core.masks import paste
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.core.results import PromptResult
from service.engine.loading import EngineConfig, load_engine
from service.engine.segmenter import Segmenter
from service.engine.weights import Source
from service.errors import ModelUnavailable
from tools.bench.engines import serving
from tools.train_tiny.backgrounds import NATIVE_PX
from tools.train_tiny.contact import contact_sheet
from tools.train_tiny.evaluation import BY_EXAMPLE, THRESHOLD, Exclusions, Found, Plan, answered, exclusions, stacked
from tools.train_tiny.examples import ROW, example_pairs
from tools.train_tiny.figures import Figures
from tools.train_tiny.report import (
    LOWEST_SCORE,
    Tally,
    calibration_table,
    concept_table,
    confusion_table,
    exclusion_table,
    figures_table,
    mistake_table,
    tally,
)
from tools.train_tiny.vocabulary import HELD_OUT_COMBINATIONS, TRAINED_COMBINATIONS
from tools.train_tiny.worlds import (
    SEEN_DRAWINGS,
    TRAINED_SHAPES,
    UNSEEN_COMBINATIONS,
    UNSEEN_DRAWINGS,
)

_NATIVE = f"{NATIVE_PX} × {NATIVE_PX}"
_SIZES = {"640 × 480": (480, 640), "300 × 900": (900, 300), "1800 × 600": (600, 1800), "4000 × 3000": (3000, 4000)}
_MARKS = "<!-- sam3 evaluate -->", "<!-- end of sam3 evaluate -->"


@dataclass(frozen=True)
class Report:
    """All that is measured: by phrase, beyond training, by size, by exemplar box, and with negative boxes."""

    text: Tally
    groups: dict[str, Figures]
    excluding: dict[str, Exclusions]

    def markdown(self) -> str:
        """The tables, one below the other."""
        parts = {
            "By kind of prompt": figures_table("prompts", self.text.kinds | {"all but unknown": self.text.known}),
            "Beyond training, and other sizes": figures_table("what", self.groups),
            "Negative boxes": exclusion_table(self.excluding),
            "By concept": concept_table(self.text.concepts),
            "Wrong finds": mistake_table(self.text.mistakes),
            "Confusion of names": confusion_table(self.text.mistakes),
            "Calibration": calibration_table(self.text.calibration),
        }
        return "\n\n".join(f"**{title}**\n\n{table}" for title, table in parts.items())

    def counts(self) -> dict[str, Any]:
        """JSON-ready counts."""
        tables = {"kinds": self.text.kinds, "concepts": self.text.concepts, "groups": self.groups}
        counts: dict[str, Any] = {
            title: {name: asdict(figures) for name, figures in rows.items()} for title, rows in tables.items()
        }
        counts["excluding"] = {name: asdict(each) for name, each in self.excluding.items()}
        counts["calibration"] = self.text.calibration
        return counts


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 evaluate`."""
    parser = subparsers.add_parser("evaluate", help=purpose, description=purpose)
    parser.add_argument("--model", default="embedded", help="embedded (default) or a checkpoint folder")
    parser.add_argument("--scenes", type=int, default=500, help="native scenes of up to 5 prompts each (500)")
    parser.add_argument("--json", type=Path, help="also write the counts there")
    parser.add_argument("--update", type=Path, help="put the tables into this document, between its two marks")
    parser.add_argument("--contact-sheet", type=Path, help="also draw what was found in some of the scenes there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables of the model card; 1 when the model cannot be loaded."""
    try:
        report = _measured(arguments)
    except ModelUnavailable as error:
        print(error.detail, file=sys.stderr)
        return 1
    print(report.markdown(), flush=True)
    if arguments.update:
        arguments.update.write_text(updated(arguments.update.read_text(), report.markdown()))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.counts(), indent=1) + "\n")
    return 0


def _measured(arguments: argparse.Namespace) -> Report:
    with service_segmenter(arguments.model) as segmenter:
        report = measure(segmenter, arguments.scenes)
        if arguments.contact_sheet:
            contact_sheet(example_pairs(partial(segment, segmenter)), ROW, arguments.contact_sheet)
    return report


def updated(document: str, tables: str) -> str:
    """The document with the tables between its marks; ValueError where it lacks these."""
    before, first, rest = document.partition(_MARKS[0])
    _, second, after = rest.partition(_MARKS[1])
    if not (first and second):
        raise ValueError(f"the document lacks the marks {_MARKS[0]} and {_MARKS[1]}")
    return f"{before}{first}\n\n{tables}\n\n{second}{after}"


def measure(segmenter: Segmenter, scenes: int) -> Report:
    """Everything of the report; `scenes` for the phrases, half as many for each other part, a fifth for each size."""
    plain = partial(segment, segmenter)
    text = tally(answered(partial(segment, segmenter, lowest=LOWEST_SCORE), Plan(scenes)))
    native = Plan(max(1, scenes // 2))
    combinations = replace(native, seed=1, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS)
    drawings = replace(native, seed=2, world=UNSEEN_DRAWINGS)
    plans = {
        "unseen colour + shape": combinations,
        "the same shapes, seen colours": replace(combinations, world=TRAINED_SHAPES, asked=TRAINED_COMBINATIONS),
        "unseen drawings": drawings,
        "the same emoji, seen drawings": replace(drawings, world=SEEN_DRAWINGS),
        "exemplar boxes": replace(native, seed=3, mix=BY_EXAMPLE),
        "exemplar boxes, unseen colour + shape": replace(combinations, seed=4, mix=BY_EXAMPLE),
        "exemplar boxes, unseen drawings": replace(drawings, seed=5, mix=BY_EXAMPLE),
    }
    plans |= {size: Plan(max(1, scenes // 5), size_hw=size_hw, seed=6) for size, size_hw in _SIZES.items()}
    groups = {_NATIVE: text.whole} | {name: tally(answered(plain, plan)).whole for name, plan in plans.items()}
    excluding = {
        "trained drawings": exclusions(plain, replace(native, seed=7)),
        "unseen colour + shape": exclusions(plain, replace(native, seed=8, world=UNSEEN_COMBINATIONS)),
    }
    return Report(text, groups, excluding)


def service_segmenter(model: str) -> AbstractContextManager[Segmenter]:
    """The service's own segmenter, with the model on its thread."""
    return serving(partial(load_engine, EngineConfig(Source(model))))


def segment(
    segmenter: Segmenter, image: NDArray[np.uint8], prompts: Sequence[Prompt], lowest: float = THRESHOLD
) -> list[Found]:
    """Segment as the service does, file bytes in and instances out; every find that scores above `lowest`.

    What scores higher does not depend on that threshold.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=0)
    answer = segmenter.segment(file.getvalue(), PromptSet(tuple(prompts), Options(threshold=lowest)))
    return [_found(result, (image.shape[0], image.shape[1])) for result in answer.results]


def _found(result: PromptResult, size_hw: tuple[int, int]) -> Found:
    masks = stacked([paste(instance.mask).astype(np.bool_) for instance in result.instances], size_hw)
    return Found(masks, np.array([instance.score for instance in result.instances], np.float32))
