from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.upsample import exceeding, fused_multiply_add, make_grid

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def fused(x: float, y: float, z: float) -> float:
    one = [np.array([value], np.float32) for value in (x, y, z)]
    return float(fused_multiply_add(one[0], one[1], one[2])[0])


def test_a_product_halfway_between_two_floats_is_decided_by_the_smallest_addend() -> None:
    x, y = 24929.0, 673.0  # x · y = 2^24 + 1, halfway between the float32s 2^24 and 2^24 + 2
    assert fused(x, y, 2.0**-60) == 2**24 + 2
    assert fused(x, y, 0.0) == 2**24
    assert fused(x, y, -(2.0**-60)) == 2**24
    assert fused(-x, y, -(2.0**-60)) == -(2**24) - 2


@settings(max_examples=300, deadline=None)
@given(FLOATS, FLOATS, FLOATS)
def test_multiply_add_rounds_to_the_nearest_float(x: float, y: float, z: float) -> None:
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    result = np.float32(fused(x, y, z))
    neighbours = np.nextafter(result, np.float32(-np.inf)), np.nextafter(result, np.float32(np.inf))
    error = abs(Fraction(float(result)) - exact)
    assert all(error <= abs(Fraction(float(neighbour)) - exact) for neighbour in neighbours)


def test_output_positions_near_a_cell() -> None:
    rows = make_grid((4, 1), (8, 1)).rows
    assert rows.lower.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert rows.upper.tolist() == [1, 1, 1, 2, 2, 3, 3, 3]
    assert rows.upper_weight.tolist() == [0.0, 0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0.25]
    assert rows.near(0, 0) == slice(0, 3)
    assert rows.near(1, 2) == slice(0, 7)


def test_only_the_part_that_may_exceed_is_made() -> None:
    logits = np.full((4, 4), -1, np.float32)
    logits[1, 2] = 1
    part = exceeding(logits, make_grid((4, 4), (8, 8)), 0.0)
    assert part is not None
    above, top, left = part
    assert (above.shape, top, left) == ((5, 4), 0, 3)
    assert exceeding(logits, make_grid((4, 4), (8, 8)), 1.5) is None
