from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.engine.base import Grounding
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


@pytest.fixture(scope="session")
def assert_is_forward() -> Callable[[list[Grounding], Any], None]:
    """What an engine grounded without a threshold is what `Sam3Model.forward` puts out, all candidates of every row."""

    def check(ours: list[Grounding], theirs: Any) -> None:
        scores = theirs.pred_logits.sigmoid() * theirs.presence_logits.sigmoid()
        for row, found in enumerate(ours):
            order = scores[row].argsort(descending=True)
            np.testing.assert_allclose(found.scores, scores[row][order], atol=1e-6)
            np.testing.assert_allclose(found.boxes, theirs.pred_boxes[row][order].clamp(0, 1), atol=1e-6)
            np.testing.assert_allclose(found.mask_logits, theirs.pred_masks[row][order], rtol=1e-5, atol=1e-5)

    return check
