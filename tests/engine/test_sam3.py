from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from service.engine import pretrained, sam3
from service.engine.base import Grounding, Query
from service.engine.sam3 import Sam3Engine
from service.engine.weights import EMBEDDED, Checkpoint
from service.errors import ModelUnavailable, NotFinite

PHRASES = ["cat", "red circle", "the dogs", "fruit", "qwxz"]


def queries(
    engine: Sam3Engine, image: NDArray[np.uint8], threshold: float = 0.5, limit: int = 100
) -> list[sam3.Sam3Query]:
    [encoded] = engine.encode_image([engine.prepare(image)])
    return [Query(encoded, text, threshold, limit) for text in engine.encode_text(PHRASES)]


@torch.inference_mode()
def test_text_only_equals_grounding_beside_a_padded_box(
    scene: NDArray[np.uint8], assert_is_forward: Callable[..., None]
) -> None:
    """Upstream always appends the CLS token; transformers does so only beside a box, be it padding (label -10).

    In float64, where rounding cannot hide a difference: in float32 single mask logits differ by 1.3e-5 of about 20.
    This is also the proof that our steps are those of `Sam3Model.forward`: same scores, boxes and masks.
    """
    engine = pretrained.load(Checkpoint(EMBEDDED, "embedded", "0"), torch.device("cpu"), torch.float64)
    asked = queries(engine, scene, threshold=0.0)
    count = len(asked)
    theirs = engine._model(
        pixel_values=engine._pixels([engine.prepare(scene)]).expand(count, -1, -1, -1),
        **engine._tokenizer(PHRASES, padding="max_length", max_length=32, return_tensors="pt"),
        input_boxes=torch.zeros(count, 1, 4, dtype=torch.float64),
        input_boxes_labels=torch.full((count, 1), -10),
    )
    assert_is_forward(engine.ground(asked), theirs)


def test_a_batch_of_images_and_phrases_equals_one_by_one(engine: Sam3Engine, scene: NDArray[np.uint8]) -> None:
    images = [scene, np.ascontiguousarray(scene[:, ::-1]), scene[: scene.shape[0] // 2]]
    encoded = engine.encode_image([engine.prepare(image) for image in images])
    texts = engine.encode_text(PHRASES)
    ragged = [Query(encoded[i], texts[j], 0.0, 100) for i, j in ((0, 0), (2, 1), (1, 0), (0, 3), (2, 4))]
    together = engine.ground(ragged)
    for (i, j), answer in zip(((0, 0), (2, 1), (1, 0), (0, 3), (2, 4)), together, strict=True):
        [image] = engine.encode_image([engine.prepare(images[i])])
        [text] = engine.encode_text([PHRASES[j]])
        [alone] = engine.ground([Query(image, text, 0.0, 100)])
        assert_same(answer, alone)


def assert_same(one: Grounding, other: Grounding) -> None:
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-5)
    assert_close_masks(one.mask_logits, other.mask_logits)


def assert_close_masks(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    """Within 1e-5 of the logits' own scale, which is about 20."""
    np.testing.assert_allclose(one, other, atol=1e-5 * max(1.0, float(np.abs(other).max(initial=0))), rtol=0)


def test_keeps_the_best_above_the_threshold(engine: Sam3Engine, scene: NDArray[np.uint8]) -> None:
    everything = engine.ground(queries(engine, scene, threshold=0.0))
    some = engine.ground(queries(engine, scene, threshold=0.3, limit=2))
    for full, kept in zip(everything, some, strict=True):
        assert np.all(np.diff(full.scores) <= 0)
        expected = full.scores[full.scores > 0.3][:2]
        np.testing.assert_array_equal(kept.scores, expected)
        assert_close_masks(kept.mask_logits, full.mask_logits[: len(expected)])
        assert kept.boxes.dtype == kept.mask_logits.dtype == np.float32


def test_encodes_any_shape_of_image(engine: Sam3Engine) -> None:
    for height, width in ((1, 1), (1, 3000), (700, 3), (168, 168)):
        [image] = engine.encode_image([engine.prepare(np.full((height, width, 3), 200, np.uint8))])
        assert image.cls_token.shape[:2] == (1, 1)
        assert all(torch.isfinite(level).all() for level in (image.attended, *image.skips))


def test_a_phrase_beyond_the_context_is_cut_not_refused(engine: Sam3Engine) -> None:
    [long, short] = engine.encode_text(["cat " * 500, "cat"])
    assert len(long.tokens) == 32
    assert len(short.tokens) == 3
    assert short.nbytes == short.tokens.untyped_storage().nbytes()


def drop_one(weights: dict[str, torch.Tensor]) -> None:
    del weights["detr_decoder.box_head.layer3.weight"]


def add_one(weights: dict[str, torch.Tensor]) -> None:
    weights["detr_decoder.not_a_layer.weight"] = torch.zeros(2, 2)


def reshape_one(weights: dict[str, torch.Tensor]) -> None:
    weights["text_projection.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_one, "1 missing weights (detr_decoder.box_head.layer3.weight)"),
        (add_one, "1 unexpected weights (detr_decoder.not_a_layer.weight)"),
        (reshape_one, "text_projection.bias"),
    ],
)
def test_refuses_a_checkpoint_that_does_not_fit(
    tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    weights = load_file(folder / "model.safetensors")
    damage(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable) as caught:
        pretrained.load(Checkpoint(folder, "broken", "0"), torch.device("cpu"), torch.float32)
    assert message in caught.value.detail
    assert "\n" not in caught.value.detail


def test_refuses_a_truncated_weight_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelUnavailable, match="broken"):
        pretrained.load(Checkpoint(folder, "broken", "0"), torch.device("cpu"), torch.float32)


def test_patches_have_their_exact_places_in_half_precision(tmp_path: Path) -> None:
    """14 patches a side, for rotations learnt with 8: the places are sevenths, which bfloat16 does not have."""
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["backbone_config"]["image_size"] = 14 * 14
    (folder / "config.json").write_text(json.dumps(config))
    models = [pretrained.read(Checkpoint(folder, "odd", "0"), dtype)[0] for dtype in (torch.float32, torch.bfloat16)]
    layers = [model.vision_encoder.backbone.layers for model in models]
    for full, half in zip(*layers, strict=True):
        assert half.position_ids.dtype == torch.float32
        torch.testing.assert_close(half.position_ids, full.position_ids, atol=0, rtol=0)
    assert any((full.position_ids != full.position_ids.bfloat16()).any() for full in layers[0])


def test_half_precision_agrees_with_full(engine: Sam3Engine, scene: NDArray[np.uint8]) -> None:
    half = pretrained.load(Checkpoint(EMBEDDED, "embedded", "0"), torch.device("cpu"), torch.bfloat16)
    assert half.info.dtype == "bfloat16"
    full_scores = [g.scores[:1] for g in engine.ground(queries(engine, scene, threshold=0.0))]
    half_scores = [g.scores[:1] for g in half.ground(queries(half, scene, threshold=0.0))]
    np.testing.assert_allclose(np.concatenate(half_scores), np.concatenate(full_scores), atol=0.15)


@pytest.mark.parametrize(
    ("weight", "message"),
    [("dot_product_scoring.query_proj.weight", "scores"), ("mask_decoder.instance_projection.weight", "mask logits")],
)
def test_output_that_is_not_finite_is_an_error_not_an_empty_result(
    scene: NDArray[np.uint8], weight: str, message: str
) -> None:
    broken = pretrained.load(Checkpoint(EMBEDDED, "embedded", "0"), torch.device("cpu"), torch.float32)
    torch.nn.init.constant_(broken._model.get_parameter(weight), float("nan"))
    with pytest.raises(NotFinite, match=message):
        broken.ground(queries(broken, scene, threshold=0.0))


def test_prompts_that_find_nothing_cost_no_mask_head(engine: Sam3Engine, scene: NDArray[np.uint8]) -> None:
    calls: list[int] = []
    embedder = engine._model.mask_decoder.mask_embedder
    hook = embedder.register_forward_hook(lambda *call: calls.append(call[-1].shape[0]))
    try:
        nothing = engine.ground(queries(engine, scene, threshold=0.9999))
        some = engine.ground(queries(engine, scene))
    finally:
        hook.remove()
    assert all(not len(found.scores) for found in nothing)
    assert calls == [sum(bool(len(found.scores)) for found in some)]
    assert 0 < calls[0] < len(PHRASES)
