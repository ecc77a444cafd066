"""Waiting until a device has done what it was told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Finish = Callable[[torch.device], None]


def finish(device: torch.device, stream_of: Callable[[torch.device], Any] = torch.cuda.current_stream) -> None:
    """Return when all that this thread has launched on `device` is done; at once on a CPU, which launches nothing.

    A GPU's forward that hands no number to the host returns before it is computed: it would seem to take no time, and
    whatever is asked for next would be booked its time and its failure.
    """
    if device.type == "cuda":
        stream_of(device).synchronize()
