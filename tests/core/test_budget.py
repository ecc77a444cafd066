from __future__ import annotations

import threading

from service.core.budget import Budget


def test_outside_of_an_event_there_is_no_limit() -> None:
    budget = Budget(540)
    with budget.event():
        pass
    assert budget.left_s() == float("inf")
    assert budget.left_for_model_s() == float("inf")


def test_a_part_is_kept_for_writing() -> None:
    for total_s, for_model_s in ((540, 510), (100, 90), (1, 0.9)):
        assert Budget(total_s).for_model_s == for_model_s
    budget = Budget(100)
    with budget.event():
        assert 0 < budget.left_s() <= 100
        assert budget.left_for_model_s() <= 90


def test_an_event_inside_another_has_what_the_outer_one_has_left() -> None:
    outer = Budget(100)
    with outer.event():
        deadline = outer.left_s()
        with outer.event():
            assert outer.left_s() <= deadline
        assert outer.left_s() <= deadline


def test_each_thread_has_its_own_event() -> None:
    budget, seen = Budget(100), []
    with budget.event():
        thread = threading.Thread(target=lambda: seen.append(budget.left_s()))
        thread.start()
        thread.join()
    assert seen == [float("inf")]


def test_an_event_that_has_used_its_time_has_nothing_for_the_model() -> None:
    budget = Budget(0)
    with budget.event():
        assert budget.left_s() <= 0
        assert budget.left_for_model_s() == 0
