"""Which dead letters are meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from tools.redrive.letter import Letter

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGE = re.compile(r"([0-9]{1,6})([smhd])")


def age_or_time(text: str) -> datetime:
    """`12h` before now, or a time with or without its zone (then UTC), as argparse reads an argument."""
    age = _AGE.fullmatch(text)
    if age:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; allowed: a number and s, m, h or d, or a time such as 2026-01-31T12:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Choice:
    """Conditions that must all hold; an empty one always does. Globs match a whole address or a whole name."""

    ids: Collection[str] = ()
    reason: str = ""
    object_glob: str = ""
    before: datetime | None = None
    after: datetime | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.reason.lower() in letter.reason.lower()
            and (not self.object_glob or self._names(letter.about))
            and (self.before is None or letter.published < self.before)
            and (self.after is None or letter.published > self.after)
        )

    def _names(self, uri: str) -> bool:
        name = uri.removeprefix("gs://").partition("/")[2] if uri.startswith("gs://") else uri
        return fnmatchcase(uri, self.object_glob) or fnmatchcase(name, self.object_glob)
