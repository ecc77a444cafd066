"""Whether something is freed at once, not when the collector next looks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collector() -> Iterator[None]:
    """Nothing that refers to itself is freed inside the block."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
