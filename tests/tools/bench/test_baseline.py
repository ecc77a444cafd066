"""The two sides of the bench find the same: otherwise their times could not be compared."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from service.core.masks import crop_masks, rings, rle
from service.engine.loading import EngineConfig, load_engine
from service.engine.weights import EMBEDDED, Source
from tools.bench import baseline, engines, models, rss
from tools.bench.baseline import OneFileService
from tools.bench.finds import choose_threshold, same_finds
from tools.bench.inputs import PROMPTS, encoded, object_logits, photo
from tools.bench.prompts import answer_body
from tools.clocked import Clocked
from tools.train_tiny.architecture import Size, make_config

SCENE = EMBEDDED.parent / "demo" / "scene.png"


def test_identical_masks() -> None:
    logits = object_logits(6)
    frames = baseline.full_frames(torch.from_numpy(logits), (300, 400))
    crops = crop_masks(logits, (300, 400))
    assert baseline.rles(frames) == [rle(crop) for crop in crops]
    assert baseline.contours(frames) == [[ring.tolist() for ring in rings(crop)] for crop in crops]


def test_no_masks() -> None:
    frames = baseline.full_frames(torch.zeros(0, 48, 48), (300, 400))
    assert (baseline.rles(frames), baseline.contours(frames)) == ([], [])


def test_identical_finds() -> None:
    engine = engines.load(EMBEDDED)
    one_file = OneFileService.load(EMBEDDED, "cpu", torch.float32)
    rgb = np.array(Image.open(SCENE).convert("RGB"))
    theirs = json.loads(one_file.segment(rgb, PROMPTS, 0.5))["results"]
    with engines.serving(lambda: engine) as segmenter:
        ours = json.loads(answer_body(segmenter, SCENE.read_bytes(), PROMPTS, 0.5))["results"]
    assert any(result["scores"] for result in ours)
    assert same_finds(theirs, ours)
    assert one_file.model_s > one_file.text_s > 0


def test_finds_differ_when_anything_does() -> None:
    mask = rle(crop_masks(object_logits(1), (60, 80))[0])
    one = {"label": "cat", "scores": [0.9], "boxes": [[1, 2, 3, 4]], "masks_rle": [mask]}
    other_mask = rle(crop_masks(-object_logits(1), (60, 80))[0])
    assert same_finds([one], [one])
    for change in ({"label": "dog"}, {"scores": [0.8]}, {"boxes": [[1, 2, 3, 5]]}, {"masks_rle": [other_mask]}):
        assert not same_finds([one], [one | change])
    nothing = {"label": "cat", "scores": [], "boxes": [], "masks_rle": []}
    assert same_finds([nothing], [nothing])
    assert not same_finds([one], [nothing])


def test_the_threshold_lets_about_so_many_through() -> None:
    engine, rgb = engines.load(EMBEDDED), photo((120, 160))
    threshold = choose_threshold(engine, rgb, kept=20)
    with engines.serving(lambda: engine) as segmenter:
        results = json.loads(answer_body(segmenter, encoded(rgb, ".png"), PROMPTS, threshold))["results"]
    assert 14 <= sum(len(result["scores"]) for result in results) <= 26


def test_the_clock_counts_the_call_that_runs() -> None:
    engine = Clocked(engines.load(EMBEDDED))
    before = engine.read()
    engine.encode_text(["cat"])
    with engine._working():
        time.sleep(0.02)
        during = engine.read()
    after = engine.read()
    assert before.busy_s == 0 < after.text_s < during.busy_s <= after.busy_s


def test_a_random_checkpoint_is_complete_and_always_the_same(tmp_path: Path) -> None:
    shipped = json.loads((EMBEDDED / "config.json").read_text())["text_config"]["vocab_size"]
    config = make_config(shipped, Size(image_px=84, vision_layers=2, encoder_layers=1, decoder_layers=1))
    for name in ("one", "two"):
        models.save_random(config, tmp_path / name)
    one, two = (models.Checkpoint(tmp_path / name) for name in ("one", "two"))
    assert (one.folder / "model.safetensors").read_bytes() == (two.folder / "model.safetensors").read_bytes()
    engine = load_engine(EngineConfig(Source(str(one.folder)), device="cpu"))
    [image] = engine.encode_image([engine.prepare(photo((60, 80)))])
    assert torch.isfinite(image.cls_token).all()
    weights = torch.load(models.pickled(one, tmp_path))
    assert sum(tensor.nbytes for tensor in weights.values()) <= one.weight_bytes


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_begins_again() -> None:
    block = np.ones(64 * 2**20, np.uint8)
    assert block[-1]
    rss.reset_peak()
    del block
    resident = rss.resident()
    rss.reset_peak()
    assert rss.peak() < resident + 16 * 2**20
    assert rss.family(1)[0] == 1
    assert rss.resident(2**22 + 1) == 0  # no such process
