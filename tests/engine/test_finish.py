from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from service.core.results import ModelInfo
from service.engine.finish import finish
from service.engine.official import OfficialEngine
from service.engine.sam3 import Sam3Engine

CPU = torch.device("cpu")


@pytest.fixture
def synchronized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices whose stream has been waited for; none needs to be there."""
    seen: list[str] = []

    def current_stream(device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(synchronize=lambda: seen.append(str(device)))

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    return seen


def test_a_gpu_is_waited_for_and_a_cpu_is_not(synchronized: list[str]) -> None:
    finish(CPU)
    assert synchronized == []
    finish(torch.device("cuda:0"))
    assert synchronized == ["cuda:0"]


def test_the_default_engine_encodes_images_to_the_end(engine: Sam3Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr("service.engine.sam3.finish", waited.append)
    engine.encode_image([engine.prepare(np.zeros((8, 8, 3), np.uint8))])
    assert waited == [CPU]


def test_the_official_engine_encodes_images_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr("service.engine.official.finish", waited.append)
    level = torch.zeros(1, 1, 2, 2)
    backbone = SimpleNamespace(forward_image=lambda pixels: {"backbone_fpn": [level], "vision_pos_enc": [level]})
    official = OfficialEngine(SimpleNamespace(backbone=backbone), ModelInfo("staged", "1", "cpu", "float32"))
    official.encode_image([np.zeros((3, 8, 8), np.uint8)])
    assert waited == [CPU]
