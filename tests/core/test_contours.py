from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.core.contours import Ring, hole_rings, outer_rings, simplified
from service.core.masks import Mask, paste, rings

TARGET = [
    ".........",
    ".#######.",
    ".#.....#.",
    ".#.###.#.",
    ".#.#.#.#.",
    ".#.###.#.",
    ".#.....#.",
    ".#######.",
    ".........",
]
"""A ring around a ring."""


def drawn(rows: list[str], top: int = 0, left: int = 0, size_hw: tuple[int, int] = (20, 20)) -> Mask:
    width = max(map(len, rows))
    pixels = np.array([[cell == "#" for cell in row.ljust(width)] for row in rows], np.uint8)
    return Mask.of(pixels, top, left, size_hw)


def test_a_hole_is_ringed_by_the_pixels_around_it() -> None:
    mask = drawn(["####", "#..#", "####"], top=2, left=5)
    assert [ring.tolist() for ring in outer_rings(mask)] == [[[5, 2], [5, 4], [8, 4], [8, 2]]]
    [hole] = hole_rings(mask)
    assert {tuple(point) for point in hole} <= {(x, y) for y in range(2, 5) for x in range(5, 9)}
    assert all(paste(mask)[y, x] for x, y in hole)


def test_what_lies_in_a_hole_is_with_the_holes() -> None:
    """The outer rings are the same whether holes are asked for or not."""
    mask = drawn(TARGET)
    [outer], [same] = outer_rings(mask), rings(mask)
    np.testing.assert_array_equal(outer, same)
    assert [extent(ring) for ring in hole_rings(mask)] == [(1, 7), (3, 5), (3, 5)]


def extent(ring: Ring) -> tuple[int, int]:
    return min(x for x, _ in ring), max(x for x, _ in ring)


def test_each_of_several_parts_has_its_holes() -> None:
    mask = drawn(["###.###", "#.#.#.#", "###.###"])
    assert (len(outer_rings(mask)), len(hole_rings(mask))) == (2, 2)


@pytest.mark.parametrize("rows", [["###", "###"], ["#"], ["#.", ".#"], []])
def test_no_holes(rows: list[str]) -> None:
    mask = drawn(rows) if rows else Mask.of(np.zeros((0, 0), np.uint8), 0, 0, (4, 4))
    assert hole_rings(mask) == []


def test_a_staircase_becomes_its_corners() -> None:
    stairs = drawn(["#" * (2 * n + 1) for n in range(9)])
    [ring] = outer_rings(stairs)
    [coarse] = outer_rings(stairs, 1.0)
    assert len(coarse) == 3 < len(ring)
    assert points(coarse) <= points(ring)


def points(ring: Ring) -> set[tuple[int, ...]]:
    return set(map(tuple, ring.tolist()))


def test_holes_are_simplified_too() -> None:
    frame = np.ones((60, 60), np.uint8)
    cv2.circle(frame, (30, 30), 20, 0, -1)
    mask = Mask.of(frame, 0, 0, (60, 60))
    assert len(hole_rings(mask, 2.0)[0]) < len(hole_rings(mask)[0]) / 2


def test_no_tolerance_changes_nothing() -> None:
    ring = np.array([[0, 0], [0, 1], [0, 2], [1, 2]], np.int32)
    assert simplified(ring, 0.0) is ring


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Blots with holes, anywhere in their frame."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    noise = cv2.GaussianBlur(random.random((height, width)), (0, 0), draw(st.sampled_from([0.3, 1.0, 2.0])))
    pixels = (noise > np.quantile(noise, draw(st.sampled_from([0.2, 0.5, 0.8])))).astype(np.uint8)
    top, left = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return Mask.of(pixels, top, left, (height + top, width + left))


@settings(max_examples=200, deadline=None)
@given(masks())
def test_outer_rings_and_holes_give_the_mask_by_the_even_odd_rule(mask: Mask) -> None:
    frame = np.zeros(mask.size_hw, np.uint8)
    found = outer_rings(mask) + hole_rings(mask)
    cv2.fillPoly(frame, found, 1)
    np.testing.assert_array_equal(frame.astype(bool), paste(mask))


# What is within a pixel of a side whose end is then taken out, itself within 1/√2 of the new side.
LAST_PASS = 1 + 0.5**0.5


@settings(max_examples=200, deadline=None)
@given(masks(), st.sampled_from([0.5, 1.0, 2.5, 7.0]))
def test_what_is_left_out_lies_near_what_stays(mask: Mask, tolerance_px: float) -> None:
    pairs = zip(outer_rings(mask), outer_rings(mask, tolerance_px), strict=True)
    for ring, coarse in pairs:
        assert points(coarse) <= points(ring)
        assert max(distance(point, coarse) for point in ring) <= LAST_PASS * tolerance_px + 1e-6


def distance(point: NDArray[np.int32], ring: Ring) -> float:
    """Of a point to a closed ring."""
    return min(to_segment(point, a, b) for a, b in pairwise([*ring, ring[0]]))


def to_segment(point: NDArray[np.int32], a: NDArray[np.int32], b: NDArray[np.int32]) -> float:
    length = float(((b - a) ** 2).sum())
    along = float(np.clip((point - a) @ (b - a) / length, 0, 1)) if length else 0.0
    return float(np.linalg.norm(point - (a + along * (b - a))))
