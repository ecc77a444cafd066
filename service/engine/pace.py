"""How fast this process's model has been lately: the ground on which an event that could never end is refused."""

from __future__ import annotations

import threading
from collections import deque

_REMEMBERED = 16


class Pace:
    """Seconds of the last forwards; written by the model's thread, read by any.

    The best of them counts, not the mean: a warm-up, a neighbour or a half-empty batch makes a forward slower than it
    need be, and nothing makes it faster.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._image_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._prompt_s: deque[float] = deque(maxlen=_REMEMBERED)

    def encoded(self, images: int, spent_s: float) -> None:
        """Note a forward of the vision encoder."""
        with self._lock:
            self._image_s.append(spent_s / images)

    def grounded(self, prompts: int, spent_s: float) -> None:
        """Note a forward that grounded prompts."""
        with self._lock:
            self._prompt_s.append(spent_s / prompts)

    def estimate_s(self, prompts: int) -> float | None:
        """The least that one image with so many prompts takes on its own; None before both have been measured."""
        with self._lock:
            if not self._image_s or not self._prompt_s:
                return None
            return min(self._image_s) + prompts * min(self._prompt_s)
