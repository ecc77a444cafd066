"""The official engine. What runs Meta's package is skipped where it is not installed (extra `official`)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.engine import official
from service.engine.base import Exemplar, Grounding, Query
from service.engine.loading import EngineConfig, load_engine
from service.engine.official import OfficialEngine, OfficialQuery
from service.engine.weights import EMBEDDED, OFFICIAL, Checkpoint, Source, fingerprint, resolve
from service.errors import ModelUnavailable
from tools.parity import write_official

INSTALLED = find_spec("sam3") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="Meta's sam3 is not installed (extra `official`)")
BOX, OTHER = Exemplar((0.1, 0.1, 0.4, 0.5)), Exemplar((0.5, 0.5, 0.9, 0.8), positive=False)
CPU = torch.device("cpu")


@pytest.mark.skipif(INSTALLED, reason="the extra `official` is installed")
def test_a_missing_package_is_one_line_that_names_the_extra() -> None:
    phases: list[str] = []
    with pytest.raises(ModelUnavailable) as caught:
        load_engine(EngineConfig(Source("facebook/sam3"), engine="sam3"), phases.append)
    assert caught.value.detail == (
        "SAM3_ENGINE: 'sam3' needs the extra \"official\": pip install 'sam3-service[official]'"
    )
    assert phases == []  # before any download


@pytest.mark.parametrize("model", ["embedded", str(EMBEDDED)])
def test_a_folder_without_sam3_pt_is_named(model: str) -> None:
    with pytest.raises(
        ModelUnavailable, match=r"lacks sam3\.pt; it must be a folder with sam3\.pt and tokenizer\.json"
    ):
        resolve(Source(model), layout=OFFICIAL)


def test_the_revision_of_a_folder_changes_with_sam3_pt(tmp_path: Path) -> None:
    (tmp_path / "sam3.pt").write_bytes(b"weights")
    first = resolve(Source(str(tmp_path)), layout=OFFICIAL).revision
    (tmp_path / "sam3.pt").write_bytes(b"others!")
    assert fingerprint(tmp_path, OFFICIAL) != first


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"text", "is no torch checkpoint, or a truncated one"), (None, "lacks the text vocabulary: put tokenizer.json")],
    ids=["text", "no vocabulary"],
)
def test_what_cannot_be_loaded_is_one_line(tmp_path: Path, content: bytes | None, line: str) -> None:
    if content is None and find_spec("open_clip"):
        pytest.skip("open_clip_torch, which has the vocabulary, is installed")
    torch.save({"backbone.vision_backbone.trunk.patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "sam3.pt")
    if content:
        (tmp_path / "sam3.pt").write_bytes(content)
    with pytest.raises(ModelUnavailable) as caught:
        official.load(Checkpoint(tmp_path, "tuned", "0"), CPU, torch.float32)
    assert caught.value.detail.startswith("SAM3_MODEL: tuned: sam3.pt ")
    assert line in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of full width and few layers, with random weights."""
    return write_official(tmp_path_factory.mktemp("official"), seed=1).parent


@pytest.fixture(scope="module")
def engine(folder: Path) -> OfficialEngine:
    loaded = load_engine(EngineConfig(Source(str(folder)), "cpu", engine="sam3"))
    assert isinstance(loaded, OfficialEngine)
    return loaded


def same(one: Grounding, other: Grounding) -> None:
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-5)
    np.testing.assert_allclose(one.mask_logits, other.mask_logits, atol=1e-5 * np.abs(other.mask_logits).max())


@needs_package
def test_a_batch_of_images_phrases_and_exemplars_equals_one_by_one(
    engine: OfficialEngine, scene: NDArray[np.uint8]
) -> None:
    images = engine.encode_image([engine.prepare(scene), engine.prepare(scene[:40])])
    texts = engine.encode_text(["cat", "two red circles, please"])
    ragged: list[OfficialQuery] = [
        Query(images[0], texts[0], 0.0, 5),
        Query(images[1], texts[1], 0.0, 3, (BOX, OTHER)),
        Query(images[0], texts[1], 0.0, 4, (OTHER,)),
    ]
    for query, together in zip(ragged, engine.ground(ragged), strict=True):
        [alone] = engine.ground([query])
        assert len(alone.scores) == query.limit
        same(together, alone)


@needs_package
def test_exemplars_and_their_sign_count(engine: OfficialEngine, scene: NDArray[np.uint8]) -> None:
    [image] = engine.encode_image([engine.prepare(scene)])
    [text] = engine.encode_text(["visual"])
    sets: list[tuple[Exemplar, ...]] = [(), (BOX,), (Exemplar(BOX.box_xyxy, positive=False),)]
    best = [engine.ground([Query(image, text, 0.0, 1, exemplars)])[0].scores[0] for exemplars in sets]
    assert len(set(best)) == 3


@needs_package
def test_a_threshold_that_none_reaches_leaves_nothing(engine: OfficialEngine, scene: NDArray[np.uint8]) -> None:
    [image] = engine.encode_image([engine.prepare(scene)])
    [text] = engine.encode_text(["cat"])
    [found] = engine.ground([Query(image, text, 1.0, 5)])
    assert (found.scores.shape, found.boxes.shape, found.mask_logits.shape) == ((0,), (0, 4), (0, 288, 288))


@needs_package
def test_images_are_resized_as_upstream_does_it(engine: OfficialEngine, scene: NDArray[np.uint8]) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    theirs = v2.Resize((1008, 1008))(torch.from_numpy(scene).permute(2, 0, 1))
    np.testing.assert_array_equal(engine.prepare(scene), theirs.numpy())


@needs_package
def test_half_precision_is_autocast(folder: Path, engine: OfficialEngine, scene: NDArray[np.uint8]) -> None:
    half = load_engine(EngineConfig(Source(str(folder)), "cpu", "bfloat16", engine="sam3"))
    assert (half.info.dtype, half.info.revision) == ("bfloat16", engine.info.revision)
    scores = []
    for each in (half, engine):
        [image] = each.encode_image([each.prepare(scene)])
        [text] = each.encode_text(["cat"])
        scores.append(each.ground([Query(image, text, 0.0, 1, (BOX,))])[0].scores)
    np.testing.assert_allclose(scores[0], scores[1], atol=0.15)


def without_a_box_head(weights: dict[str, Tensor]) -> None:
    del weights["detector.transformer.decoder.bbox_embed.layers.2.weight"]


def with_an_adapter(weights: dict[str, Tensor]) -> None:
    weights["detector.adapter.weight"] = torch.zeros(1)


def with_one_text_layer_less(weights: dict[str, Tensor]) -> None:
    for name in [name for name in weights if "resblocks.1." in name]:
        del weights[name]


def with_another_shape(weights: dict[str, Tensor]) -> None:
    weights["detector.transformer.decoder.norm.bias"] = torch.zeros(3)


@needs_package
@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (without_a_box_head, "1 missing weights (transformer.decoder.bbox_embed.layers.2.weight)"),
        (with_an_adapter, "1 unexpected weights (adapter.weight)"),
        (with_one_text_layer_less, "12 missing weights (backbone.language_backbone.encoder.transformer.resblocks.1."),
        (with_another_shape, "1 mismatched weights (transformer.decoder.norm.bias)"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    folder: Path, tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], line: str
) -> None:
    weights = torch.load(folder / "sam3.pt", mmap=True)["model"]
    damage(weights)
    torch.save({"model": weights}, tmp_path / "sam3.pt")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ModelUnavailable) as caught:
        official.load(Checkpoint(tmp_path, "tuned", "0"), CPU, torch.float32)
    assert line in caught.value.detail
    assert "\n" not in caught.value.detail
