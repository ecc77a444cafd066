from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from service.engine.base import Grounding
from service.engine.suppression import only, survivors


def found(*rows: tuple[float, float]) -> Grounding:
    """Boxes of a tenth of the width at x, with their scores; the logits tell which is which."""
    scores, xs = np.array(rows, np.float32).reshape(-1, 2).T
    boxes = np.stack([xs, np.zeros_like(xs), xs + 0.1, np.ones_like(xs)], axis=1)
    return Grounding(scores, boxes, np.broadcast_to(scores[:, None, None], (len(xs), 2, 2)))


def scores(groundings: list[Grounding]) -> list[list[float]]:
    for each in groundings:
        np.testing.assert_array_equal(each.mask_logits[:, 0, 0], each.scores)
        assert len(each.boxes) == len(each.scores)
    return [[round(float(score), 2) for score in each.scores] for each in groundings]


def suppress(groundings: Sequence[Grounding], iou: float | None) -> list[Grounding]:
    return list(map(only, groundings, survivors(groundings, iou)))


def test_off_by_default() -> None:
    both = [found((0.9, 0.0), (0.8, 0.0)), found((0.7, 0.0))]
    assert scores(suppress(both, None)) == [[0.9, 0.8], [0.7]]


def test_the_better_prompt_has_the_instance() -> None:
    mug, cup, plate = found((0.9, 0.0), (0.6, 0.5)), found((0.8, 0.01), (0.7, 0.51)), found((0.75, 0.3))
    assert scores(suppress([mug, cup, plate], 0.5)) == [[0.9], [0.7], [0.75]]


def test_within_a_prompt() -> None:
    assert scores(suppress([found((0.9, 0.0), (0.8, 0.01), (0.7, 0.3))], 0.5)) == [[0.9, 0.7]]


@pytest.mark.parametrize("groundings", [[], [found()], [found(), found()]])
def test_nothing_found(groundings: list[Grounding]) -> None:
    assert scores(suppress(groundings, 0.5)) == [[] for _ in groundings]
