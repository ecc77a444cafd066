"""How the tools build the service's own parts: the one place to change when their constructors do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.engine.base import Engine
from service.engine.batcher import BatchPolicy, ModelThread
from service.engine.images import ImageLimits
from service.engine.loading import EngineConfig, load_engine
from service.engine.segmenter import Segmenter
from service.engine.weights import Source

QUEUE_SIZE = 64


def load(folder: Path, device: str = "cpu") -> Engine[Any, Any]:
    """The service's engine on a checkpoint folder, warm."""
    return load_engine(EngineConfig(Source(str(folder)), device=device))


@contextmanager
def serving(make: Callable[[], Engine[Any, Any]]) -> Iterator[Segmenter]:
    """A segmenter around the engine that `make` makes on its thread, with empty caches, until the block ends.

    It has the service's own defaults but for a longer queue.
    """
    thread = ModelThread(lambda report: make(), BatchPolicy(queue_size=QUEUE_SIZE))
    thread.start().result()
    try:
        yield Segmenter(thread, ImageLimits())
    finally:
        thread.close()
