"""`make parity`: the default engine against upstream's own package, with the same weights.

A model of full width and few layers gets random weights and is saved as an official `.pt`; `sam3 convert` makes the
default engine's folder of it; the service's own code loads both; they answer the same queries.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine.base import Engine, Exemplar, Grounding, Query
from service.engine.loading import EngineConfig, load_engine
from service.engine.official_weights import DETECTOR
from service.engine.upstream import build
from service.engine.vocabulary import BPE_FILE, find_merges, write_bpe
from service.engine.weights import Source
from tools.convert import convert

TOLERANCE = 1e-4
MIN_IOU = 0.999
MIN_SPREAD = 0.5
# As few layers as still have one of every kind: every eighth vision block looks over the whole image.
DEPTHS = {
    "vision_config": {"backbone_config": {"num_hidden_layers": 8}},
    "text_config": {"num_hidden_layers": 2},
    "geometry_encoder_config": {"num_layers": 2},
    "detr_encoder_config": {"num_layers": 2},
    "detr_decoder_config": {"num_layers": 2},
}
SIZES_HW = ((1500, 311), (480, 640))
# Three queries: which image, what, and like which boxes.
ABOUT = (0, 1, 0)
PHRASES = ("cat", "a red mug, left of the laptop's edge", "visual")
EXEMPLARS = (
    (Exemplar((0.1, 0.2, 0.4, 0.7)),),
    (Exemplar((0.5, 0.1, 0.9, 0.3)), Exemplar((0.05, 0.6, 0.2, 0.95), positive=False)),
    (Exemplar((0.0, 0.0, 1.0, 1.0), positive=False), Exemplar((0.3, 0.3, 0.31, 0.32)), Exemplar((0.6, 0.5, 0.8, 0.9))),
)

# Names of tables of vectors, which nothing is multiplied with.
_CODES = ("embed", "embedding", "embed.weight", "embedding.weight", "reference_points.weight", "presence_token.weight")
# Attention with random weights sees the mean of the image, which would drown what sets the candidates apart.
_GAINS = {"decoder.layers.0.cross_attn.out_proj": 0.1, "decoder.layers.1.cross_attn.out_proj": 0.1, "hs_proj": 4.0}
_Encoded = tuple[list[Any], list[Any]]


@dataclass(frozen=True)
class Difference:
    """The largest |difference| of score logits, box coordinates in [0, 1] and mask logits; the least mask IoU.

    spread: standard deviation of the score logits themselves, without which agreement means nothing.
    """

    spread: float
    score_logit: float
    box: float
    mask_logit: float
    iou: float

    @property
    def passes(self) -> bool:
        """Whether it is within what the project promises, and all of it numbers."""
        agree = self.score_logit <= TOLERANCE and self.box <= TOLERANCE and self.iou >= MIN_IOU
        # Two masks of NaN are empty to their IoU, and equal.
        return agree and math.isfinite(self.mask_logit) and self.spread >= MIN_SPREAD


def main() -> int:
    """Print one line a case; status 1 when one of them is out of bounds."""
    parser = argparse.ArgumentParser(prog="tools.parity", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and images (0)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where both engines run (cpu)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        ours, theirs = _engines(Path(folder), arguments.seed, arguments.device)
        print(f"{'':42}    spread score logits     boxes   mask logits   mask IoU", flush=True)
        passed = [_report(name, found) for name, found in compare(ours, theirs, arguments.seed)]
    print(f"bounds: score logits and boxes {TOLERANCE}, mask IoU {MIN_IOU}: {'kept' if all(passed) else 'BROKEN'}")
    return 0 if all(passed) else 1


def write_official(folder: Path, seed: int) -> Path:
    """Write `sam3.pt` with random weights, what declares its depth, and the vocabulary; returns the `.pt`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(DEPTHS))
    write_bpe(find_merges(folder), folder / BPE_FILE)
    model = build(folder / BPE_FILE, folder / "config.json", torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    weights = {
        f"{DETECTOR}{name}": _random(name, weight, generator) if weight.is_meta else weight
        for name, weight in model.state_dict().items()
    }
    torch.save({"model": weights | {"tracker.maskmem_tpos_enc": torch.zeros(7)}}, folder / "sam3.pt")
    return folder / "sam3.pt"


def compare(ours: Engine[Any, Any], theirs: Engine[Any, Any], seed: int) -> Iterator[tuple[str, Difference]]:
    """Both engines' answers for text, and for text with exemplars, one query at a time and all in one forward."""
    images = _images(seed)
    engines = ours, theirs
    alone = [_encoded_alone(engine, images) for engine in engines]
    together = [_encoded_together(engine, images) for engine in engines]
    for name, exemplars in (("text", ((),) * len(PHRASES)), ("text + exemplars", EXEMPLARS)):
        asked = [_queries(encoded, exemplars) for encoded in (*alone, *together)]
        one = [[found for query in asked[i] for found in engine.ground([query])] for i, engine in enumerate(engines)]
        yield f"{name}, one by one", difference(*one)
        batch = [engine.ground(asked[i + 2]) for i, engine in enumerate(engines)]
        yield f"{name}, in a batch", difference(*batch)
        yield f"{name}, official alone or not", difference(one[1], batch[1])


def difference(ours: Sequence[Grounding], theirs: Sequence[Grounding]) -> Difference:
    """Compare instances one to one; two of nearly the same score may have changed places. NaN stays NaN."""
    pairs = [(a, _reordered(b, a)) for a, b in zip(ours, theirs, strict=True)]
    return Difference(
        float(np.min([_logit(found.scores).std() for found in theirs])),
        float(np.max([_most(_logit(a.scores), _logit(b.scores)) for a, b in pairs])),
        float(np.max([_most(a.boxes, b.boxes) for a, b in pairs])),
        float(np.max([_most(a.mask_logits, b.mask_logits) for a, b in pairs])),
        float(np.min([_iou(a.mask_logits > 0, b.mask_logits > 0).min() for a, b in pairs])),
    )


def _engines(folder: Path, seed: int, device: str) -> tuple[Engine[Any, Any], Engine[Any, Any]]:
    started = time.perf_counter()
    checkpoint = write_official(folder / "official", seed)
    convert(checkpoint, folder / "default")
    ours = load_engine(EngineConfig(Source(str(folder / "default")), device, "float32"))
    theirs = load_engine(EngineConfig(Source(str(checkpoint.parent)), device, "float32", engine="sam3"))
    print(f"written, converted and loaded in {time.perf_counter() - started:.0f} s", flush=True)
    return ours, theirs


def _report(name: str, found: Difference) -> bool:
    figures = f"{found.spread:10.2f}{found.score_logit:12.1e}{found.box:10.1e}{found.mask_logit:14.1e}{found.iou:11.5f}"
    print(f"{name:42}{figures}{'' if found.passes else '  <- out of bounds'}", flush=True)
    return found.passes


def _random(name: str, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Signals keep their size through every layer; no norm, bias or code is neutral, so that none can be mixed up."""
    noise = torch.randn(weight.shape, generator=generator)
    if weight.ndim == 1:
        return 1 + 0.2 * noise if name.endswith("weight") else 0.1 * noise
    gain = next((gain for part, gain in _GAINS.items() if part in name), 1.0)
    if name.endswith(_CODES):
        return gain * noise
    fan_in = weight.numel() / weight.shape[0]
    return gain * noise / torch.tensor(fan_in).sqrt()


def _images(seed: int) -> list[NDArray[np.uint8]]:
    """Coarse random blobs under fine noise, of odd shapes."""
    random = np.random.default_rng(seed)
    images = []
    for height, width in SIZES_HW:
        coarse = np.kron(random.integers(0, 200, (8, 8, 3)), np.ones((-(-height // 8), -(-width // 8), 1)))
        images.append((coarse[:height, :width] + random.integers(0, 56, (height, width, 3))).astype(np.uint8))
    return images


def _encoded_alone(engine: Engine[Any, Any], images: Sequence[NDArray[np.uint8]]) -> _Encoded:
    """Each image and phrase in a forward of its own."""
    features = [engine.encode_image([engine.prepare(image)])[0] for image in images]
    return features, [engine.encode_text([phrase])[0] for phrase in PHRASES]


def _encoded_together(engine: Engine[Any, Any], images: Sequence[NDArray[np.uint8]]) -> _Encoded:
    return engine.encode_image([engine.prepare(image) for image in images]), engine.encode_text(PHRASES)


def _queries(encoded: _Encoded, exemplars: Sequence[tuple[Exemplar, ...]]) -> list[Query[Any, Any]]:
    """Every one of the model's candidates is asked for."""
    images, phrases = encoded
    rows = zip(ABOUT, phrases, exemplars, strict=True)
    return [Query(images[image], phrase, 0.0, 200, boxes) for image, phrase, boxes in rows]


def _reordered(found: Grounding, like: Grounding) -> Grounding:
    distance = np.abs(found.boxes[None] - like.boxes[:, None]).max(2) + np.abs(found.scores - like.scores[:, None])
    order = distance.argmin(1)
    if len(set(order.tolist())) != len(like.scores):
        order = np.arange(len(found.scores))  # not the same instances: let the difference say so
    return Grounding(found.scores[order], found.boxes[order], found.mask_logits[order])


def _logit(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    probability = scores.astype(np.float64)
    return np.log(probability) - np.log1p(-probability)


def _most(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one - other).max())


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, h, w) each → (N,); two empty masks are equal."""
    union = (one | other).sum((1, 2))
    return np.where(union, (one & other).sum((1, 2)) / np.maximum(union, 1), 1.0)


if __name__ == "__main__":
    sys.exit(main())
