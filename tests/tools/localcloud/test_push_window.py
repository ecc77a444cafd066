from __future__ import annotations

import time

from tools.localcloud.pubsub.push import PushWindow


def finish(window: PushWindow, *, success: bool, backoff: bool = False) -> None:
    window.started()
    window.finished(success=success, backoff=backoff)


def test_slow_start_doubles_up_to_the_limit() -> None:
    window = PushWindow(limit=4)
    rooms = []
    for _ in range(4):
        rooms.append(window.room(1))
        finish(window, success=True)
    assert rooms == [1, 2, 4, 4]


def test_a_failure_halves_the_window() -> None:
    window = PushWindow(limit=8)
    for _ in range(3):
        finish(window, success=True)
    finish(window, success=False)
    assert window.room(1) == 4


def test_a_full_window_has_no_room() -> None:
    window = PushWindow(limit=1)
    window.started()
    assert window.room(0.01) == 0


def test_push_backoff_closes_the_window_for_a_while() -> None:
    window = PushWindow(limit=1)
    failed_at = time.monotonic()
    finish(window, success=False, backoff=True)
    assert window.room(0.01) == 0
    assert window.room(30) == 1
    assert time.monotonic() - failed_at > 0.09
