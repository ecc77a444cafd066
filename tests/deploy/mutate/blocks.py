"""The blocks of a Terraform file as `terraform fmt` writes it: which lines each takes, and how it is called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OPENS = re.compile(r'^(\s*)(\w+)((?: "[^"]+")*) \{(\})?$')
_KINDS = {"resource", "data", "variable", "output", "provider"}


@dataclass(frozen=True)
class Block:
    """Lines `first` to `last` (from 0, both included) are a block called `name`, within the blocks of `path`."""

    path: tuple[str, ...]
    kind: str
    name: str
    first: int
    last: int

    @property
    def title(self) -> str:
        """`google_storage_bucket.own/lifecycle_rule`: unique in a file unless the block is repeated."""
        return "/".join((*self.path, self.name))


def blocks_of(lines: list[str]) -> Iterator[Block]:
    """Every block, an outer one before those within; maps (`x = {`) are no blocks."""
    yield from _within(lines, 0, len(lines), ())


def _within(lines: list[str], start: int, end: int, path: tuple[str, ...]) -> Iterator[Block]:
    at = start
    while at < end:
        opening = _OPENS.match(lines[at])
        if opening is None:
            at += 1
            continue
        last = at if opening[4] else lines.index(f"{opening[1]}}}", at)
        block = Block(path, opening[2], _name(opening[2], opening[3]), at, last)
        yield block
        yield from _within(lines, at + 1, last, (*path, block.name))
        at = last + 1


def _name(kind: str, labels: str) -> str:
    words = re.findall(r'"([^"]+)"', labels)
    if kind in _KINDS:
        return ".".join(words if kind in ("resource", "data") else [kind, *words])
    return ".".join([kind, *words])


def innermost(blocks: list[Block], line: int) -> Block | None:
    """The smallest block that a line lies in."""
    around = [block for block in blocks if block.first <= line <= block.last]
    return max(around, key=lambda block: block.first, default=None)
