from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
from PIL import Image

from service.core.prompts import parse_sidecar
from tools.train_tiny.demo_scene import MIN_OBJECTS, SIZE_WH, draw_demo_scene, parse_size, truth_document
from tools.train_tiny.vocabulary import EMOJI_CONCEPTS, SHAPE_CONCEPTS

DEMO = Path(__file__).parents[3] / "service" / "models" / "demo"


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:pycocotools", "ignore:__array__ implementation:DeprecationWarning"
)
def test_the_committed_truth_is_that_of_the_committed_picture() -> None:
    """Its masks are disjoint, their boxes are tight, and its names are those of today's vocabulary."""
    with Image.open(DEMO / "scene.png") as picture:
        size_wh = picture.size
    truth = json.loads((DEMO / "scene.truth.json").read_text())
    assert (truth["image"]["width"], truth["image"]["height"]) == size_wh
    names = {concept.name: sorted(concept.names) for concept in (*SHAPE_CONCEPTS, *EMOJI_CONCEPTS)}
    covered = np.zeros(size_wh[::-1], np.int64)
    for item in truth["objects"]:
        mask = pycocotools.mask.decode(item["mask_rle"])
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert item["box_xyxy"] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert item["phrases"] == names[item["name"]]
        covered += mask
    assert covered.max() == 1


def test_the_committed_prompts_ask_for_present_and_for_absent_things() -> None:
    data = (DEMO / "scene.prompts.json").read_bytes()
    texts = [prompt.text for prompt in parse_sidecar("scene.prompts.json", data).prompts]
    named = {
        phrase for item in json.loads((DEMO / "scene.truth.json").read_text())["objects"] for phrase in item["phrases"]
    }
    assert len(texts) >= 5
    assert 1 <= len([text for text in texts if text not in named]) <= 2


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:pycocotools", "ignore:__array__ implementation:DeprecationWarning"
)
def test_the_truth_names_each_object_with_its_mask_and_box() -> None:
    scene = draw_demo_scene(3)
    document = truth_document(scene)
    assert document["image"] == dict(zip(("width", "height"), SIZE_WH, strict=True))
    assert len(scene.objects) >= MIN_OBJECTS
    for item, entry in zip(scene.objects, document["objects"], strict=True):
        assert np.array_equal(pycocotools.mask.decode(entry["mask_rle"]), item.mask)
        assert entry["box_xyxy"] == list(item.box_xyxy)
        assert entry["name"] in entry["phrases"]


@pytest.mark.parametrize("text", ["960", "960x", "960x640x3", "a x b"])
def test_a_size_is_width_x_height(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)
