from __future__ import annotations

import threading

from service.core.budget import Budget


def test_outside_of_any_work_there_is_no_limit() -> None:
    budget = Budget()
    with budget.within(540):
        pass
    assert budget.left_s() == float("inf")
    assert budget.left_for_model_s() == float("inf")


def test_a_part_is_kept_for_writing() -> None:
    for total_s, for_model_s in ((540, 510), (100, 90), (1, 0.9)):
        budget = Budget()
        with budget.within(total_s):
            assert budget.for_model_s == for_model_s
    with budget.within(100):
        assert 0 < budget.left_s() <= 100
        assert budget.left_for_model_s() <= 90


def test_work_inside_other_work_has_what_that_has_left() -> None:
    budget = Budget()
    with budget.within(100):
        left_s = budget.left_s()
        with budget.within(500):
            assert budget.left_s() <= left_s
            assert budget.for_model_s == 90
        with budget.within(10):
            assert budget.left_s() <= 10
        assert 10 < budget.left_s() <= left_s


def test_each_thread_has_its_own_work() -> None:
    budget, seen = Budget(), []
    with budget.within(100):
        thread = threading.Thread(target=lambda: seen.append(budget.left_s()))
        thread.start()
        thread.join()
    assert seen == [float("inf")]


def test_work_that_has_used_its_time_has_nothing_for_the_model() -> None:
    budget = Budget()
    with budget.within(0):
        assert budget.left_s() <= 0
        assert budget.left_for_model_s() == 0
