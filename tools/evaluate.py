"""`sam3 evaluate`: how well the model does on held-out scenes, through the service's own segmenter."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.core.masks import paste
from service.core.prompts import Options, Prompt, PromptSet
from service.core.results import PromptResult
from service.engine.batcher import ModelThread
from service.engine.images import ImageLimits
from service.engine.loading import EngineConfig, load_engine
from service.engine.segmenter import Segmenter
from service.engine.weights import Source
from tools.train_tiny.contact import contact_sheet
from tools.train_tiny.evaluation import Exclusions, Found, Plan, Segment, answered, exclusions, stacked
from tools.train_tiny.examples import example_tiles
from tools.train_tiny.figures import Figures
from tools.train_tiny.report import (
    LOWEST_SCORE,
    Tally,
    calibration_table,
    concept_table,
    confusion_table,
    exclusion_table,
    figures_table,
    tally,
)
from tools.train_tiny.vocabulary import HELD_OUT_COMBINATIONS
from tools.train_tiny.worlds import UNSEEN_COMBINATIONS, UNSEEN_DRAWINGS

_NATIVE = "168 × 168"
_SIZES = {"640 × 480": (480, 640), "300 × 900": (900, 300), "1800 × 600": (600, 1800), "4000 × 3000": (3000, 4000)}


@dataclass(frozen=True)
class Report:
    """All that is measured: by phrase, beyond training, by size, by exemplar box, and with negative boxes."""

    text: Tally
    groups: dict[str, Figures]
    excluding: dict[str, Exclusions]

    def markdown(self) -> str:
        """The tables, one below the other."""
        parts = {
            "By kind of prompt": figures_table(
                "prompts", self.text.kinds | {"all but unknown": self.text.absent_known}
            ),
            "Beyond training, and other sizes": figures_table("what", self.groups),
            "Negative boxes": exclusion_table(self.excluding),
            "By concept": concept_table(self.text.concepts),
            "Confusion of names": confusion_table(self.text.confusions),
            "Calibration": calibration_table(self.text.calibration),
        }
        return "\n\n".join(f"{title}\n\n{table}" for title, table in parts.items())

    def counts(self) -> dict[str, Any]:
        """JSON-ready counts."""
        tables = {"kinds": self.text.kinds, "concepts": self.text.concepts, "groups": self.groups}
        counts: dict[str, Any] = {
            title: {name: asdict(figures) for name, figures in rows.items()} for title, rows in tables.items()
        }
        counts["excluding"] = {name: asdict(each) for name, each in self.excluding.items()}
        counts["calibration"] = self.text.calibration
        return counts


def register(subparsers: Any) -> None:
    """Add `sam3 evaluate`."""
    parser = subparsers.add_parser("evaluate", help="score a model on held-out drawn scenes")
    parser.add_argument("--model", default="embedded", help="embedded (default) or a checkpoint folder")
    parser.add_argument("--scenes", type=int, default=400, help="native scenes of 5 prompts each (400)")
    parser.add_argument("--json", type=Path, help="also write the counts there")
    parser.add_argument("--contact-sheet", type=Path, help="also draw what was found in some of the scenes there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables of the model card."""
    with service_segmenter(arguments.model) as segment:
        report = measure(segment, arguments.scenes)
        if arguments.contact_sheet:
            contact_sheet(example_tiles(segment), 6, arguments.contact_sheet)
    print(report.markdown(), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.counts(), indent=1) + "\n")
    return 0


def measure(segment: Segment, scenes: int) -> Report:
    """Everything of the report; `scenes` of native size for each of its parts, and fewer large ones."""
    native = Plan(scenes=scenes)
    text = tally(answered(segment, native))
    combinations = replace(native, seed=1, world=UNSEEN_COMBINATIONS, asked=HELD_OUT_COMBINATIONS)
    plans = {
        "unseen colour + shape": combinations,
        "unseen drawings": replace(native, seed=2, world=UNSEEN_DRAWINGS),
        "exemplar boxes": replace(native, seed=3, by_example=True),
        "exemplar boxes, unseen colour + shape": replace(combinations, seed=4, by_example=True),
        "exemplar boxes, unseen drawings": replace(native, seed=5, world=UNSEEN_DRAWINGS, by_example=True),
    }
    plans |= {size: Plan(max(1, scenes // 7), size_hw=size_hw, seed=6) for size, size_hw in _SIZES.items()}
    groups = {_NATIVE: text.whole} | {name: tally(answered(segment, plan)).whole for name, plan in plans.items()}
    excluding = {
        "trained drawings": exclusions(segment, replace(native, seed=7)),
        "unseen colour + shape": exclusions(segment, replace(native, seed=8, world=UNSEEN_COMBINATIONS)),
    }
    return Report(text, groups, excluding)


@contextmanager
def service_segmenter(model: str) -> Iterator[Segment]:
    """A function that segments as the service does: file bytes in, instances out, through the model's thread."""
    load = partial(load_engine, EngineConfig(Source(model)))
    thread = ModelThread(load)
    thread.start().result()
    try:
        yield partial(_segment, Segmenter(thread, ImageLimits()))
    finally:
        thread.close()


def _segment(segmenter: Segmenter, image: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Found]:
    """Every find from `LOWEST_SCORE` on: what scores higher does not depend on that threshold."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    answer = segmenter.segment(file.getvalue(), PromptSet(tuple(prompts), Options(threshold=LOWEST_SCORE)))
    return [_found(result, (image.shape[0], image.shape[1])) for result in answer.results]


def _found(result: PromptResult, size_hw: tuple[int, int]) -> Found:
    masks = stacked([paste(instance.mask).astype(np.bool_) for instance in result.instances], size_hw)
    return Found(masks, np.array([instance.score for instance in result.instances], np.float32))
