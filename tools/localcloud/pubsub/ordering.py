"""Message ordering: of each ordering key, one message at a time is on its way."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class OrderingGate(Generic[Item]):
    """Holds later items of a key back until the earlier one is settled; not thread-safe by itself."""

    def __init__(self) -> None:
        # A key is present while one of its items is on its way.
        self._behind: dict[str, deque[Item]] = {}

    def admit(self, key: str, item: Item) -> bool:
        """Whether `item` may go at once; otherwise it is kept until `release` hands it out."""
        if not key:
            return True
        if key in self._behind:
            self._behind[key].append(item)
            return False
        self._behind[key] = deque()
        return True

    def release(self, key: str) -> Iterator[Item]:
        """Settle the item of `key` that was on its way, and yield the next one, if any."""
        waiting = self._behind.get(key)
        if waiting:
            yield waiting.popleft()
        else:
            self._behind.pop(key, None)

    def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget waiting items."""
        for key, waiting in self._behind.items():
            self._behind[key] = deque(item for item in waiting if not unwanted(item))

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._behind.values())
