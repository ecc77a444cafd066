"""The comparison of two engines notices what is wrong. That they agree is `make parity`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.base import Grounding
from tools.parity import difference

NAN = np.float32("nan")


def grounding(seed: int) -> Grounding:
    """Five instances in places of their own."""
    random = np.random.default_rng(seed)
    boxes = random.uniform(0, 1, (5, 4)).astype(np.float32)
    scores = np.array([0.1, 0.3, 0.5, 0.7, 0.9], np.float32)
    return Grounding(scores, boxes, random.standard_normal((5, 8, 8)).astype(np.float32))


def with_nan(array: NDArray[np.float32]) -> NDArray[np.float32]:
    copy = array.copy()
    copy.flat[-1] = NAN
    return copy


def test_the_same_answers_pass() -> None:
    answers = [grounding(0), grounding(1)]
    found = difference(answers, answers)
    assert (found.score_logit, found.box, found.mask_logit, found.iou) == (0, 0, 0, 1)
    assert found.passes


@pytest.mark.parametrize("where", ["scores", "boxes", "mask_logits"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("both", [False, True])
def test_nan_is_out_of_bounds(where: str, place: int, both: bool) -> None:
    ours, theirs = ([grounding(0), grounding(1)] for _ in range(2))
    ours[place] = dataclasses.replace(ours[place], **{where: with_nan(getattr(ours[place], where))})
    if both:
        theirs[place] = ours[place]
    assert not difference(ours, theirs).passes
