"""How much of the GPU's memory is in use."""

from __future__ import annotations

import sys


def device_memory_bytes() -> dict[str, int]:
    """Bytes by kind: allocated and reserved by torch now, and `peak`, the most that was allocated since the start.

    Empty without a GPU in use. To ask imports nothing and touches no device; ask when torch's import is over.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "peak": torch.cuda.max_memory_allocated(),
    }
