"""Random streams: every image the tool draws has an address (stream, seed, index), and streams never overlap.

NumPy's SeedSequence mixes the whole address into the state (https://numpy.org/doc/stable/reference/random/parallel.html),
so held-out scenes are disjoint from training scenes by construction, whatever the seeds.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a scene is drawn for."""

    PRETRAINING = 1
    TRAINING = 2
    HELD_OUT = 4
    DEMO = 5


def generator(stream: Stream, seed: int, index: int) -> np.random.Generator:
    """The generator at one address; the same address always gives the same draws."""
    return np.random.default_rng([int(stream), seed, index])
