"""At-least-once delivery made visible: which messages come twice although they were acknowledged."""

import argparse
from enum import Enum
from random import Random

MAX_LATE_S = 0.5


class Echo(Enum):
    """How a message is delivered a second time."""

    NONE = "none"
    TOGETHER = "while the first delivery is still in flight"
    LATE = "after the first delivery was acknowledged"


def duplicate_rate(text: str) -> float:
    """A rate that EchoDraw takes, as argparse's type."""
    try:
        rate = float(text)
        EchoDraw(rate)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a number from 0 to 1") from None
    return rate


class EchoDraw:
    """Draws an echo for each message, the same ones for the same seed and order of publication."""

    def __init__(self, rate: float = 0.0, seed: str = "") -> None:
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"duplicate rate {rate} is not within 0..1")
        self._rate = rate
        self._random = Random(seed)

    def draw(self) -> tuple[Echo, float]:
        """An echo for the next message, and how many seconds after the acknowledgement it comes where it is late.

        NONE but for a share `rate`, of which half come together, half late.
        """
        if self._random.random() >= self._rate:
            return Echo.NONE, 0.0
        if self._random.random() < 0.5:
            return Echo.TOGETHER, 0.0
        return Echo.LATE, self._random.uniform(0.0, MAX_LATE_S)
