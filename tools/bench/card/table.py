"""Cells as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from tools.bench.card.cells import Cell
from tools.bench.report import figure

_HEAD = ("part", "variant", "images", "prompts", "ms", "ms each", "TFLOP/s", "of matmul", "VRAM MiB")


def lines(cells: Sequence[Cell]) -> list[str]:
    """A head and one line a cell, in columns."""
    rows = [_HEAD, *(_row(cell) for cell in cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        text.ljust(width) if i < 2 else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]


def _row(cell: Cell) -> tuple[str, ...]:
    measured = cell.measured
    return (
        cell.part,
        cell.variant,
        str(cell.images or ""),
        str(cell.prompts or ""),
        measured.error or _shown(measured.ms),
        _shown(cell.ms_each),
        _shown(cell.tflop_s),
        "" if cell.of_ceiling is None else f"{cell.of_ceiling:.0%}",
        _shown(measured.vram_mib),
    )


def _shown(value: float | None) -> str:
    return "" if value is None else figure(value)
