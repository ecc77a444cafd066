"""The C library's heap: kept warm while there is work, given back to the system when there is none."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def find_trim() -> Callable[[], None]:
    """What gives the heap's free pages back; it does nothing where the C library is not glibc.

    While forwards follow each other the heap keeps their memory (`python -m service` asks for that): given back after
    each of them, every page would be faulted in and zeroed again, a third of a forward's time on a CPU.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # malloc_trim(3)

    def trim() -> None:
        if malloc_trim is not None:
            malloc_trim(0)

    return trim
