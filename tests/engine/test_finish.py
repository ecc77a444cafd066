from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from service.core.results import ModelInfo
from service.engine.finish import finish
from service.engine.official import OfficialEngine
from service.engine.sam3 import Sam3Engine

CPU = torch.device("cpu")


def test_a_gpu_is_waited_for_and_a_cpu_is_not() -> None:
    """None needs to be there."""
    seen: list[str] = []

    def stream_of(device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(synchronize=lambda: seen.append(str(device)))

    finish(CPU, stream_of)
    assert seen == []
    finish(torch.device("cuda:0"), stream_of)
    assert seen == ["cuda:0"]


def test_the_default_engine_encodes_images_to_the_end(engine: Sam3Engine) -> None:
    waited: list[torch.device] = []
    told = Sam3Engine(engine._model, engine._tokenizer, engine.info, waited.append)
    told.encode_image([told.prepare(np.zeros((8, 8, 3), np.uint8))])
    assert waited == [CPU]


def test_the_official_engine_encodes_images_to_the_end() -> None:
    waited: list[torch.device] = []
    level = torch.zeros(1, 1, 2, 2)
    backbone = SimpleNamespace(forward_image=lambda pixels: {"backbone_fpn": [level], "vision_pos_enc": [level]})
    official = OfficialEngine(
        SimpleNamespace(backbone=backbone), ModelInfo("staged", "1", "cpu", "float32"), waited.append
    )
    official.encode_image([np.zeros((3, 8, 8), np.uint8)])
    assert waited == [CPU]
