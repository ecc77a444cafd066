"""A batch that fails is halved until what remains of it either succeeds or fails alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from service.errors import EngineBroken, OutOfMemory, ServiceError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def salvage(
    call: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    on_out_of_memory: Callable[[int], None] = lambda size: None,
) -> list[Result | Exception]:
    """Return `call(items)`, with an exception in the place of each item that fails also alone.

    One mechanism for both faults of a joined batch: no memory for its size (`on_out_of_memory` gets the size that was
    too large), and one request that breaks it for its neighbours. EngineBroken is raised: nothing else would succeed.
    """
    outcome = _attempt(call, items)
    if isinstance(outcome, list):
        return list(outcome)
    if isinstance(outcome, OutOfMemory) and len(items) > 1:
        on_out_of_memory(len(items))
    if len(items) == 1:
        return [outcome]
    half = len(items) // 2
    return [*salvage(call, items[:half], on_out_of_memory), *salvage(call, items[half:], on_out_of_memory)]


def _attempt(call: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result] | Exception:
    """The results, or the exception without its traceback, whose frames would keep the batch's tensors alive."""
    try:
        return call(items)
    except EngineBroken:
        raise
    except Exception as error:  # the boundary: whatever a model may raise, the thread that owns it goes on
        if not isinstance(error, ServiceError):
            log.exception("a batch of %d failed", len(items))
        return error.with_traceback(None)
