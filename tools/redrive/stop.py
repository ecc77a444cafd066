"""Ctrl-C and SIGTERM between two calls, not within one: what a call has taken would belong to nobody."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self


class Stop:
    """`asked` is True after the first Ctrl-C or SIGTERM in the block; a second one is a KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
