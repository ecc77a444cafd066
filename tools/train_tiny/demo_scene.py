"""The demo scene: a picture, and beside it what is drawn in it and every phrase that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from PIL import Image

from tools.train_tiny.scenes import Scene, SceneObject, draw_scene
from tools.train_tiny.streams import Stream, generator

MIN_OBJECTS = 6
SIZE_WH = (960, 640)


def draw_demo_scene(seed: int, size_wh: tuple[int, int] = SIZE_WH) -> Scene:
    """The scene of this seed and size, from a stream that neither training nor evaluation draws from."""
    width, height = size_wh
    return draw_scene(generator(Stream.DEMO, seed, 0), (height, width), MIN_OBJECTS)


def truth_document(scene: Scene) -> dict[str, Any]:
    """JSON-ready truth: image size and, from back to front, each object's name, phrases, visible mask and box."""
    height, width = scene.image.shape[:2]
    return {"image": {"width": width, "height": height}, "objects": [_described(item) for item in scene.objects]}


def write_demo_scene(seed: int, size_wh: tuple[int, int], folder: Path) -> None:
    """Write `scene.png` and `scene.truth.json` into `folder`."""
    scene = draw_demo_scene(seed, size_wh)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(folder / "scene.png", optimize=True)
    (folder / "scene.truth.json").write_text(json.dumps(truth_document(scene), indent=1) + "\n")


def parse_size(text: str) -> tuple[int, int]:
    """`960x640` → (960, 640), width first; ValueError for anything else."""
    width, height = (int(part) for part in text.split("x"))
    return width, height


def _described(item: SceneObject) -> dict[str, Any]:
    encoded = pycocotools.mask.encode(np.asfortranarray(item.mask.astype(np.uint8)))
    return {
        "name": item.concept.name,
        "phrases": sorted(item.concept.names),
        "box_xyxy": list(item.box_xyxy),
        "mask_rle": {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")},
    }
