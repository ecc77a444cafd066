from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tools.train_tiny.contact import TILE_PX, contact_sheet
from tools.train_tiny.evaluation import Found, Pair
from tools.train_tiny.prompts import Prompt
from tools.train_tiny.scenes import draw_scene
from tools.train_tiny.streams import Stream, generator
from tools.train_tiny.vocabulary import PromptKind


def test_a_find_is_tinted_and_the_rest_of_the_scene_is_not(tmp_path: Path) -> None:
    scene = draw_scene(generator(Stream.HELD_OUT, 0, 0), (200, 200), 3)
    item = max(scene.objects, key=lambda each: int(each.mask.sum()))
    index = next(i for i, each in enumerate(scene.objects) if each is item)
    prompt = Prompt(item.concept.name, PromptKind.EMOJI, (index,), excluded=(index,))
    sheets = []
    for count in (0, 1):
        found = Found(item.mask[None][:count], np.ones(count, np.float32))
        contact_sheet([Pair(prompt, scene, found)] * 3, 2, tmp_path / "sheet.webp")
        sheets.append(np.asarray(Image.open(tmp_path / "sheet.webp").convert("RGB"), np.int16))
    assert sheets[0].shape[1] == 2 * TILE_PX
    assert sheets[0].shape[0] >= 2 * TILE_PX
    changed = np.abs(sheets[1] - sheets[0]).max(2)[:TILE_PX, :TILE_PX] > 60
    x0, y0, x1, y1 = item.box_xyxy
    inside = changed[y0:y1, x0:x1].sum()
    assert inside > 0.8 * changed.sum() > 0
