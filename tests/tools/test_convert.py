"""Official checkpoints are made here from transformers' models by the table read backwards, so Meta's package is not
needed: what comes out of the conversion must be the model that went in, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.sam3.configuration_sam3 import Sam3Config
from transformers.models.sam3.modeling_sam3 import Sam3Model

from service.engine.base import Exemplar, Query
from service.engine.loading import EngineConfig, load_engine
from service.engine.official_weights import BadCheckpoint, read_detector
from service.engine.vocabulary import BPE_FILE, MERGES, find_merges, write_bpe
from service.engine.weights import Source
from tools.cli import main
from tools.convert import convert
from tools.official_config import config_of
from tools.official_names import ROWS, Row, renamed
from tools.train_tiny.tokenizer import byte_alphabet

WINDOW, CELLS = 6, 12
TRUNK = "backbone.vision_backbone.trunk"


def tiny_config() -> Any:
    """The full model's structure; narrow, but for CLIP's vocabulary."""
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    return Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 128,
                "intermediate_size": 160,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "image_size": CELLS * 14,
                "window_size": WINDOW,
                "global_attn_indexes": [2],
                "pretrain_image_size": 56,
                "layer_norm_eps": 1e-5,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[48, 48], [24, 24], [12, 12]],
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": 49408,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "max_position_embeddings": 32,
            "projection_dim": 40,
            "hidden_act": "gelu",
        },
        geometry_encoder_config={**sizes, "num_layers": 1, "roi_size": 4},
        detr_encoder_config={**sizes, "num_layers": 2},
        detr_decoder_config={**sizes, "num_layers": 3, "num_queries": 9},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )


def official(weights: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """What upstream would have called these weights of transformers' model, with all that it has besides."""
    made = {name: weight for row in ROWS for name, weight in backwards(row, weights)}
    vision = config.vision_config.backbone_config
    for index in range(vision.num_hidden_layers):
        wide = index in vision.global_attn_indexes
        cells = vision.image_size // vision.patch_size if wide else vision.window_size
        made[f"{TRUNK}.blocks.{index}.attn.freqs_cis"] = torch.zeros(cells**2, 32, dtype=torch.complex64)
    return made | {f"geometry_encoder.points_direct_project.{leaf}": torch.zeros(2) for leaf in ("weight", "bias")}


def backwards(row: Row, weights: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    pattern = re.escape(row.default)
    for field, values in (("n", r"\d+"), ("leaf", "weight|bias"), ("qkv", "q")):
        pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field}>{values})")
    found = []
    for name, weight in weights.items():
        match = re.fullmatch(pattern, name)
        # Level 0 of the pyramid is upsampled twice (dconv_2x2_0 and _1), level 1 once (dconv_2x2).
        if (
            not match
            or ("dconv_2x2." in row.official and match["n"] != "1")
            or ("_0." in row.official and match["n"] != "0")
        ):
            continue
        fields = match.groupdict()
        if "{qkv}" in row.default:
            parts = [weights[row.default.format(**{**fields, "qkv": part})] for part in "qkv"]
            found.append((row.official.format(**fields), torch.cat(parts)))
        else:
            found.append((row.official.format(**fields), undone(row, weight)))
    return found


def undone(row: Row, weight: Tensor) -> Tensor:
    if row.official.endswith("pos_embed"):
        return torch.cat([torch.zeros_like(weight[:, :1]), weight], dim=1)
    return weight.T if row.official.endswith("text_projection") else weight


def made_up_merges() -> list[str]:
    """As many merges as CLIP has: pairs of bytes."""
    pairs = product(byte_alphabet(), repeat=2)
    return [f"{left} {right}" for (left, right), _ in zip(pairs, range(MERGES), strict=False)]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return Sam3Model(tiny_config()).eval()


@pytest.fixture(scope="module")
def weights(model: Any) -> dict[str, Tensor]:
    """A training run's state dict: the image model alone."""
    return official(model.state_dict(), model.config)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    """Write a checkpoint beside a vocabulary."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_bpe(made_up_merges(), folder / BPE_FILE)

    def write(content: object) -> Path:
        torch.save(content, folder / "tuned.pt")
        return folder / "tuned.pt"

    return write


def test_every_weight_of_the_full_model_has_one_name_on_each_side() -> None:
    with torch.device("meta"):
        full = Sam3Model(Sam3Config())
        theirs = official(full.state_dict(), full.config)
    made, unknown = renamed(theirs)
    assert unknown == []
    assert {name: weight.shape for name, weight in made.items()} == {n: w.shape for n, w in full.state_dict().items()}
    used = [row for row in ROWS if any(row.match(name) is not None for name in theirs)]
    assert used == list(ROWS)
    assert all(sum(row.match(name) is not None for row in ROWS) <= 1 for name in theirs)


def test_the_full_models_sizes_are_transformers_defaults() -> None:
    with torch.device("meta"):
        full = Sam3Model(Sam3Config())
        found = config_of(official(full.state_dict(), full.config))
    expected = Sam3Config()
    expected.vision_config.backbone_config.layer_norm_eps = 1e-5  # as upstream has it
    assert found.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"model": weights, "epoch": 3},
        lambda weights: {"state_dict": {f"module.{name}": weight for name, weight in weights.items()}},
        lambda weights: {
            "model": {f"detector.{name}": weight for name, weight in weights.items()}
            | {"tracker.maskmem_tpos_enc": torch.zeros(7)}
            | {"detector.backbone.vision_backbone.sam2_convs.0.conv_1x1.bias": torch.zeros(7)}
        },
    ],
    ids=["bare", "training", "distributed", "with the tracker"],
)
def test_the_detector_is_found_in_each_kind_of_checkpoint(
    save: Callable[[object], Path], weights: dict[str, Tensor], wrap: Any
) -> None:
    found = read_detector(save(wrap(weights)))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_the_model_that_went_in_comes_out(
    save: Callable[[object], Path], tmp_path: Path, model: Any, weights: dict[str, Tensor]
) -> None:
    source = save({"model": weights})
    assert main(["convert", str(source), str(tmp_path / "out" / "model")]) == 0
    written = load_file(tmp_path / "out" / "model" / "model.safetensors")
    expected = model.state_dict()
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_the_service_loads_and_uses_what_was_written(
    save: Callable[[object], Path], tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    convert(save({"model": weights}), tmp_path / "model", torch.bfloat16)
    assert load_file(tmp_path / "model" / "model.safetensors")["text_projection.bias"].dtype is torch.bfloat16
    engine = load_engine(EngineConfig(Source(str(tmp_path / "model")), "cpu"))
    [image] = engine.encode_image([engine.prepare(np.full((40, 90, 3), 7, np.uint8))])
    [text] = engine.encode_text(["a cat"])
    [found] = engine.ground([Query(image, text, 0.0, 4, (Exemplar((0.1, 0.1, 0.5, 0.5)),))])
    assert found.mask_logits.shape == (4, 48, 48)


def test_the_tokenizer_is_clips(save: Callable[[object], Path], tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """And its tokenizer.json is as good a source of the vocabulary as the file it was made from."""
    convert(save(weights), tmp_path / "model")
    assert find_merges(tmp_path / "model") == made_up_merges()


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {each: weight for each, weight in weights.items() if each != name}


def test_what_is_no_complete_detector_is_named(
    save: Callable[[object], Path], tmp_path: Path, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    box = "transformer.decoder.bbox_embed.layers.2.weight"
    for content, line in (
        ({"tracker.x": torch.zeros(1)}, f"lacks SAM 3's detector: there is no weight {TRUNK}.patch_embed.proj.weight"),
        ([torch.zeros(1)], "holds a list where a state dict is needed"),
        ({"model": Path("x")}, "holds more than weights, and is not read for safety"),
        (without(weights, box), "1 weights missing or misshapen: detr_decoder.box_head.layer3.weight"),
        (weights | {box: torch.zeros(4, 7)}, "1 weights missing or misshapen: detr_decoder.box_head.layer3.weight"),
        (weights | {"adapter.weight": torch.zeros(1)}, "holds 1 weights that are not SAM 3's: adapter.weight"),
        (without(weights, f"{TRUNK}.pos_embed"), f"lacks the weight {TRUNK}.pos_embed"),
    ):
        source = save(content)
        assert main(["convert", str(source), str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"{source}: ")
        assert line in error
        assert error.count("\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda data: data[: len(data) // 2], "is no torch checkpoint, or a truncated one"),
        (lambda _: b"not a checkpoint", "is no torch checkpoint"),
        (lambda _: b"", "is no torch checkpoint"),
    ],
    ids=["half", "text", "empty"],
)
def test_a_file_that_is_no_checkpoint_is_named(
    save: Callable[[object], Path], damage: Callable[[bytes], bytes], line: str
) -> None:
    source = save({"model": {"x": torch.zeros(5000)}})
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(BadCheckpoint, match=line) as caught:
        read_detector(source)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_taken_folder_and_a_missing_vocabulary_are_named(
    save: Callable[[object], Path], tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    source = save(weights)
    with pytest.raises(BadCheckpoint, match="does not exist"):
        convert(tmp_path / "no.pt", tmp_path / "out")
    with pytest.raises(BadCheckpoint, match="is there already"):
        convert(source, source.parent)
    (source.parent / BPE_FILE).write_bytes(b"no gzip")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        convert(source, tmp_path / "out")
    write_bpe(["a b"], source.parent / BPE_FILE)
    with pytest.raises(BadCheckpoint, match="it holds 1 merges, not 48894"):
        convert(source, tmp_path / "out")
