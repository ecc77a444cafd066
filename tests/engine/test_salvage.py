from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.salvage import salvage
from service.errors import EngineBroken, OutOfMemory


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_only_what_fails_alone_fails(poisoned: list[bool]) -> None:
    def call(items: Sequence[int]) -> list[int]:
        if any(poisoned[item] for item in items):
            raise ValueError(f"cannot do {items}")
        return [item * 10 for item in items]

    outcomes = salvage(call, range(len(poisoned)))
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == poisoned
    assert [o for o in outcomes if not isinstance(o, Exception)] == [
        i * 10 for i, bad in enumerate(poisoned) if not bad
    ]


@given(st.integers(1, 64), st.integers(1, 64))
def test_halves_until_it_fits_and_says_what_was_too_large(count: int, room: int) -> None:
    tried: list[int] = []
    too_large: list[int] = []

    def call(items: Sequence[int]) -> list[int]:
        tried.append(len(items))
        if len(items) > room:
            raise OutOfMemory(f"{len(items)} items")
        return list(items)

    assert salvage(call, range(count), too_large.append) == list(range(count))
    assert max(tried) == count
    assert all(size > room for size in too_large)
    assert len(too_large) == sum(size > room for size in tried)


def test_one_item_that_does_not_fit_has_its_error() -> None:
    def call(items: Sequence[int]) -> list[int]:
        raise OutOfMemory("no")

    sizes: list[int] = []
    [outcome] = salvage(call, [1], sizes.append)
    assert isinstance(outcome, OutOfMemory)
    assert sizes == []


def test_a_broken_engine_is_not_tried_again() -> None:
    calls: list[int] = []

    def call(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        raise EngineBroken("gone")

    with pytest.raises(EngineBroken):
        salvage(call, [1, 2, 3, 4])
    assert calls == [4]


def test_a_failure_keeps_nothing_of_its_batch_alive() -> None:
    def call(items: Sequence[int]) -> list[int]:
        raise OutOfMemory("no")

    [outcome] = salvage(call, [1])
    assert isinstance(outcome, Exception)
    assert outcome.__traceback__ is None
    assert outcome.__context__ is None
