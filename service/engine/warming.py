"""The request that warms a model up, and that tells later whether the device has failed or what was asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.engine.base import Engine, Exemplar, Query
from service.engine.weights import Checkpoint
from service.errors import NotFinite

# On a CPU a request of the full model takes 40 s on two cores, and nothing in it is initialised lazily.
_LARGE_BYTES = 512 * 1024 * 1024


def is_quick(checkpoint: Checkpoint, device_type: str) -> bool:
    """Whether a whole request takes no time worth speaking of; else its phrase alone has to do."""
    return device_type != "cpu" or _size(checkpoint) <= _LARGE_BYTES


def warm_up(engine: Engine[Any, Any], *, whole: bool = True) -> None:
    """Run one request, or its phrase alone, so that the first caller does not pay for lazy initialisation.

    Raises NotFinite when what comes out is NaN or infinite.
    """
    [text] = engine.encode_text(["warm up"])
    if not text.tokens.isfinite().all():
        raise NotFinite("the model put out text features that are NaN or infinite")
    if whole:
        [image] = engine.encode_image([engine.prepare(np.zeros((64, 64, 3), np.uint8))])
        # Any score is above it: without an instance the mask head would not run. One prompt has a box, one has none.
        whole_image = (Exemplar((0.0, 0.0, 1.0, 1.0)),)
        engine.ground([Query(image, text, -1.0, 1, exemplars) for exemplars in ((), whole_image)])


def _size(checkpoint: Checkpoint) -> int:
    return sum(path.stat().st_size for path in checkpoint.folder.iterdir() if path.is_file())
