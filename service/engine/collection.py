"""Python's garbage collector, out of the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect nothing inside the block, and never look at what it has made.

    Importing torch and transformers and building a model make a million objects that all stay: looking for garbage
    among them takes a quarter of the time, and afterwards a third of a second in the middle of some request.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
