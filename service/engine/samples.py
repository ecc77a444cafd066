"""Parts of a weight file that tell it from another one, read in a moment however large the file is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from service.engine.shards import header_end, tensor_extents

EDGE_BYTES = 4096  # of either end of a tensor
BLOCKS = 16
BLOCK_BYTES = 65536

Span = tuple[int, int]


def weight_samples(path: Path) -> Iterator[bytes]:
    """The header of a safetensors file and both ends of each tensor; of any other file, evenly spaced blocks.

    A tensor of at most two EDGE_BYTES is read whole. Training changes a tensor all over, so its ends tell, and a
    fine-tune may change only a few small tensors of thousands, so that each must be looked at. Blocks of a file
    whose tensors are not known may miss those.
    """
    with path.open("rb") as file:
        for begin, end in _merged(_spans(path)):
            file.seek(begin)
            yield file.read(end - begin)


def _spans(path: Path) -> Iterator[Span]:
    begin, extents = header_end(path), tensor_extents(path)
    if begin is None or extents is None:
        size = path.stat().st_size
        yield from ((size * i // BLOCKS, size * i // BLOCKS + BLOCK_BYTES) for i in range(BLOCKS))
        return
    yield 0, begin
    for first, last in extents:
        yield first, min(first + EDGE_BYTES, last)
        yield max(last - EDGE_BYTES, first), last


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Spans that touch as one: tensors lie end to end, which halves the reads, each of which may cross a network."""
    begin = end = 0
    for first, last in sorted(spans):
        if first > end:
            yield begin, end
            begin = first
        end = max(end, last)
    yield begin, end
