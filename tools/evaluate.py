"""`sam3 evaluate`: how well the model does on held-out scenes, through the service's own segmenter."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.core.masks import paste
from service.core.prompts import Prompt, PromptSet
from service.engine.batcher import ModelThread
from service.engine.images import ImageLimits
from service.engine.loading import EngineConfig, load_engine
from service.engine.segmenter import Segmenter
from service.engine.weights import Source
from tools.train_tiny.evaluation import Masks, Plan, Segment, evaluate, markdown


@dataclass(frozen=True)
class _Part:
    title: str
    plan: Plan


def register(subparsers: Any) -> None:
    """Add `sam3 evaluate`."""
    parser = subparsers.add_parser("evaluate", help="score a model on held-out drawn scenes")
    parser.add_argument("--model", default="embedded", help="embedded (default) or a checkpoint folder")
    parser.add_argument("--scenes", type=int, default=200, help="native scenes of 5 prompts each (200)")
    parser.add_argument("--json", type=Path, help="also write the counts there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one table for scenes of the model's own size, one for larger ones and one for exemplars without text."""
    parts = (
        _Part("168 × 168 pixels", Plan(scenes=arguments.scenes)),
        _Part("640 × 480 pixels", Plan(scenes=max(1, arguments.scenes * 3 // 10), size_hw=(480, 640), seed=1)),
        _Part("Exemplar boxes, 168 × 168 pixels", Plan(scenes=arguments.scenes, seed=2, by_example=True)),
    )
    counts: dict[str, Any] = {}
    with service_segmenter(arguments.model) as segment:
        for part in parts:
            table = evaluate(segment, part.plan)
            counts[part.title] = {kind: asdict(figures) for kind, figures in table.items()}
            print(f"\n{part.title}\n\n{markdown(table)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(counts, indent=1) + "\n")
    return 0


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


def _segment(segmenter: Segmenter, image: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Masks]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    answer = segmenter.segment(file.getvalue(), PromptSet(tuple(prompts)))
    empty = np.zeros((0, *image.shape[:2]), np.bool_)
    return [np.stack([paste(i.mask) for i in r.instances]) if r.instances else empty for r in answer.results]
