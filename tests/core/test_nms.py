from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.core.nms import box_iou, kept

Boxes = NDArray[np.float32]


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


def stays(found: Boxes, scores: list[float], iou: float) -> list[int]:
    return np.flatnonzero(kept(found, np.array(scores, np.float32), iou)).tolist()


def test_literal_overlaps() -> None:
    others = boxes((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (2, 2, 4, 4), (50, 50, 60, 60), (3, 3, 3, 9))
    np.testing.assert_allclose(box_iou(others[0], others), [1, 50 / 150, 0, 4 / 100, 0, 0])


def test_boxes_without_area_overlap_nothing() -> None:
    dot = boxes((3, 3, 3, 3))
    assert box_iou(dot[0], dot).tolist() == [0]


def test_the_better_one_of_two_stays() -> None:
    twice = boxes((0, 0, 10, 10), (1, 0, 11, 10), (40, 0, 50, 10))
    assert stays(twice, [0.6, 0.9, 0.5], 0.5) == [1, 2]
    assert stays(twice, [0.6, 0.9, 0.5], 0.9) == [0, 1, 2]


def test_only_more_than_the_threshold_is_dropped() -> None:
    halves = boxes((0, 0, 10, 10), (0, 0, 10, 5))
    assert stays(halves, [0.9, 0.8], 0.5) == [0, 1]
    assert stays(halves, [0.9, 0.8], 0.49) == [0]
    assert stays(boxes((0, 0, 1, 1), (1, 0, 2, 1)), [0.9, 0.8], 0.0) == [0, 1]


def test_who_is_dropped_drops_nobody() -> None:
    chain = boxes((0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10))
    assert stays(chain, [0.9, 0.8, 0.7], 0.3) == [0, 2]


def test_of_equal_scores_the_earlier_one_stays() -> None:
    assert stays(boxes((0, 0, 1, 1), (0, 0, 1, 1)), [0.5, 0.5], 0.5) == [0]


def test_none_of_none() -> None:
    assert stays(boxes(), [], 0.5) == []


EDGES = st.integers(0, 12)
BOX = st.tuples(EDGES, EDGES, EDGES, EDGES).map(
    lambda edges: (min(edges[0], edges[2]), min(edges[1], edges[3]), max(edges[0], edges[2]), max(edges[1], edges[3]))
)
SCORED = st.lists(st.tuples(BOX, st.sampled_from([0.2, 0.5, 0.7, 0.9])), max_size=12)
IOU = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.99])


@settings(max_examples=300, deadline=None)
@given(SCORED, IOU)
def test_what_stays_overlaps_little_and_what_goes_overlaps_something_better(
    scored: list[tuple[tuple[int, int, int, int], float]], iou: float
) -> None:
    found, scores = boxes(*(box for box, _ in scored)), np.array([score for _, score in scored], np.float32)
    remaining = kept(found, scores, iou)
    rank = np.empty(len(scores), int)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    for i in range(len(scores)):
        better = remaining & (rank < rank[i])
        assert remaining[i] == (not (box_iou(found[i], found[better]) > iou).any())


@settings(max_examples=100, deadline=None)
@given(SCORED, IOU, st.sampled_from([(1, 1), (640, 480), (3, 1000)]))
def test_the_units_of_the_axes_do_not_matter(
    scored: list[tuple[tuple[int, int, int, int], float]], iou: float, scale_xy: tuple[int, int]
) -> None:
    found, scores = boxes(*(box for box, _ in scored)), np.array([score for _, score in scored], np.float32)
    larger = found * np.array([*scale_xy, *scale_xy], np.float32)
    np.testing.assert_array_equal(kept(found, scores, iou), kept(larger, scores, iou))


@pytest.mark.parametrize("count", [2000])
def test_many_copies_of_one_box_leave_one(count: int) -> None:
    found = np.repeat(boxes((0, 0, 1, 1)), count, axis=0)
    assert kept(found, np.linspace(0, 1, count, dtype=np.float32), 0.5).sum() == 1
