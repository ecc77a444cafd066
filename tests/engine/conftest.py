from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.engine.loading import EngineConfig, load_engine
from service.engine.sam3 import Sam3Engine
from service.engine.weights import EMBEDDED

DEMO = EMBEDDED.parent / "demo"


@pytest.fixture(scope="session")
def engine() -> Sam3Engine:
    loaded = load_engine(EngineConfig())
    assert isinstance(loaded, Sam3Engine)
    return loaded


@pytest.fixture(scope="session")
def scene() -> NDArray[np.uint8]:
    return np.array(Image.open(DEMO / "scene.png").convert("RGB"))
