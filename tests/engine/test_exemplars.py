"""Exemplar boxes in the default engine: equal to transformers' own forward, and independent of their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.engine import pretrained
from service.engine.base import Exemplar, Grounding, Query
from service.engine.geometry import exemplar_tokens, modeling_sam3
from service.engine.sam3 import Sam3Engine, Sam3Query
from service.engine.weights import EMBEDDED, Checkpoint

Image = NDArray[np.uint8]

PADDING = -10
GROUPS = [
    (),
    (Exemplar((0.1, 0.2, 0.4, 0.6)),),
    (Exemplar((0.1, 0.2, 0.4, 0.6), positive=False),),
    (Exemplar((0.5, 0.5, 0.9, 0.8)), Exemplar((0.0, 0.0, 0.3, 0.2), positive=False), Exemplar((0.6, 0.1, 0.8, 0.4))),
    (Exemplar((0.0, 0.0, 1.0, 1.0)),),
    (Exemplar((0.3, 0.3, 0.3 + 1 / 4000, 0.3 + 1 / 4000)), Exemplar((0.999, 0.999, 1.0, 1.0))),
]
"""None, positive, negative, several, the whole image, a pixel of a large photo and one in its corner."""


def load(dtype: torch.dtype) -> Sam3Engine:
    return pretrained.load(Checkpoint(EMBEDDED, "embedded", "0"), torch.device("cpu"), dtype)


def asked(engine: Sam3Engine, image: Image, text: str = "visual") -> list[Sam3Query]:
    [encoded] = engine.encode_image([engine.prepare(image)])
    [phrase] = engine.encode_text([text])
    return [Query(encoded, phrase, 0.0, 100, group) for group in GROUPS]


def as_transformers_wants_them(groups: Sequence[Sequence[Exemplar]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes cxcywh and labels, padded as `Sam3Processor` pads them."""
    longest = max(map(len, groups))
    boxes = torch.zeros(len(groups), longest, 4, dtype=torch.float64)
    labels = torch.full((len(groups), longest), PADDING)
    for row, group in enumerate(groups):
        for column, exemplar in enumerate(group):
            x0, y0, x1, y1 = exemplar.box_xyxy
            boxes[row, column] = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dtype=torch.float64)
            labels[row, column] = int(exemplar.positive)
    return boxes, labels


@torch.inference_mode()
@pytest.mark.parametrize("text", ["visual", "cat"])
def test_equals_the_models_own_forward(scene: Image, text: str, assert_is_forward: Callable[..., None]) -> None:
    """In float64, so that rounding hides nothing; a prompt without exemplars stands beside padded boxes there."""
    engine = load(torch.float64)
    queries = asked(engine, scene, text)
    count = len(queries)
    boxes, labels = as_transformers_wants_them(GROUPS)
    theirs = engine._model(
        pixel_values=engine._pixels([engine.prepare(scene)]).expand(count, -1, -1, -1),
        **engine._tokenizer([text] * count, padding="max_length", max_length=32, return_tensors="pt"),
        input_boxes=boxes,
        input_boxes_labels=labels,
    )
    assert_is_forward(engine.ground(queries), theirs)


@torch.inference_mode()
def test_the_tokens_are_the_models_own_bit_for_bit(engine: Sam3Engine, scene: Image) -> None:
    """In float32; the padding of shorter prompts is left out."""
    [image] = engine.encode_image([engine.prepare(scene)])
    groups = GROUPS[1:]
    features, encoder = image.features.expand(len(groups), -1, -1, -1), engine._model.geometry_encoder
    boxes, labels = as_transformers_wants_them(groups)
    theirs = encoder(
        box_embeddings=boxes.float(),
        box_mask=labels != PADDING,
        box_labels=labels.clamp(min=0),
        img_feats=(features,),
        img_pos_embeds=(image.positions.expand_as(features),),
    ).last_hidden_state
    for row, tokens in enumerate(exemplar_tokens(encoder, features, image.positions, groups)):
        assert torch.equal(tokens[0], theirs[row, : len(groups[row]) + 1])


def box_40_px_wide(center_x: int) -> Exemplar:
    """On a photo 4000 pixels wide, whose neighbours 4 pixels on are the same number in bfloat16."""
    return Exemplar(((center_x - 20) / 4000, 0.4, (center_x + 20) / 4000, 0.42))


@torch.inference_mode()
def test_bfloat16_tells_places_apart_where_everything_looks_the_same(scene: Image) -> None:
    engine = load(torch.bfloat16)
    [image] = engine.encode_image([engine.prepare(scene)])
    blank = torch.zeros_like(image.features).expand(2, -1, -1, -1)
    groups = [(box_40_px_wide(3620),), (box_40_px_wide(3624),)]
    one, other = exemplar_tokens(engine._model.geometry_encoder, blank, image.positions, groups)
    assert not torch.equal(one[:, 0], other[:, 0])


@torch.inference_mode()
def test_bfloat16_looks_at_exactly_what_is_in_a_box(scene: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(torch.bfloat16)
    [image] = engine.encode_image([engine.prepare(scene)])
    operators = modeling_sam3.torchvision.ops
    pool: Any = operators.roi_align
    pooled: list[torch.Tensor] = []

    def recorded(features: torch.Tensor, boxes: Sequence[torch.Tensor], output_size: int) -> torch.Tensor:
        pooled.extend(boxes)
        out: torch.Tensor = pool(features, boxes, output_size)
        return out

    monkeypatch.setattr(operators, "roi_align", recorded)
    box = box_40_px_wide(3620)
    exemplar_tokens(engine._model.geometry_encoder, image.features, image.positions, [(box,)])
    height, width = image.features.shape[-2:]
    expected = np.array(box.box_xyxy) * (width, height, width, height)
    np.testing.assert_allclose(pooled[0][0].numpy(), expected, rtol=1e-6)


def test_every_exemplar_matters(engine: Sam3Engine, scene: Image) -> None:
    best = [answer.scores[0] for answer in engine.ground(asked(engine, scene))]
    assert len(np.unique(np.round(best, 4))) == len(GROUPS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_with_full(engine: Sam3Engine, scene: Image, dtype: torch.dtype) -> None:
    half = load(dtype)
    for ours, full in zip(half.ground(asked(half, scene)), engine.ground(asked(engine, scene)), strict=True):
        np.testing.assert_allclose(ours.scores[:1], full.scores[:1], atol=0.15)


unit = st.floats(0, 1, width=32)


@st.composite
def exemplars(draw: Any) -> Exemplar:
    x0, x1 = sorted((draw(unit), draw(unit)))
    y0, y1 = sorted((draw(unit), draw(unit)))
    return Exemplar((x0, y0, x1, y1), draw(st.booleans()))


questions = st.tuples(
    st.integers(0, 2), st.sampled_from(["cat", "visual", "red circle"]), st.lists(exemplars(), max_size=4)
)


@settings(max_examples=20, deadline=None)
@given(asked=st.lists(questions, min_size=2, max_size=5))
def test_an_answer_does_not_depend_on_its_neighbours(
    engine: Sam3Engine, scene: Image, asked: list[tuple[int, str, list[Exemplar]]]
) -> None:
    images = [scene, np.ascontiguousarray(scene[:, ::-1]), scene[: scene.shape[0] // 2]]

    def queries(picked: Sequence[tuple[int, str, list[Exemplar]]]) -> list[Sam3Query]:
        encoded = engine.encode_image([engine.prepare(images[index]) for index, _, _ in picked])
        texts = engine.encode_text([text for _, text, _ in picked])
        return [Query(i, t, 0.0, 100, tuple(e)) for i, t, (_, _, e) in zip(encoded, texts, picked, strict=True)]

    together = engine.ground(queries(asked))
    for answer, question in zip(together, asked, strict=True):
        [alone] = engine.ground(queries([question]))
        assert_same(answer, alone)


def assert_same(one: Grounding, other: Grounding) -> None:
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-5)
    scale = max(1.0, float(np.abs(other.mask_logits).max(initial=0)))
    np.testing.assert_allclose(one.mask_logits, other.mask_logits, atol=1e-5 * scale, rtol=0)
