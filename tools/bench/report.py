"""What was measured, as values: rows with targets, sections of rows, and the Markdown and JSON made of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """At most (or, with `least`, at least) so much of a row's `of`: our own figure, or our share of the baseline's."""

    limit: float
    of: Literal["ours", "ratio"] = "ratio"
    least: bool = False

    def met(self, row: Row) -> bool:
        """Whether the row keeps it."""
        value = row.ours if self.of == "ours" else row.ratio
        if value is None:
            return False
        return value >= self.limit if self.least else value <= self.limit


@dataclass(frozen=True)
class Row:
    """One figure: medians of both sides in `unit`, and the median over the pairs of ours / baseline."""

    what: str
    ours: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.target.met(self)


@dataclass(frozen=True)
class Check:
    """Something that must be so whatever the machine: both sides found the same."""

    what: str
    good: bool


@dataclass(frozen=True)
class Section:
    """One measured thing: what was done, in a sentence or two, and the figures."""

    title: str
    method: str
    rows: tuple[Row, ...]
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """The samples of both sides, taken in turn: the n-th of one belongs to the n-th of the other."""

    baseline: Sequence[Sample]
    ours: Sequence[Sample]

    def row(self, what: str, key: str, unit: str, target: Target | None = None, scale: float = 1) -> Row:
        """The row of one measured value; `scale` turns it into `unit`."""
        ratios = [_share(mine[key], theirs[key]) for mine, theirs in zip(self.ours, self.baseline, strict=True)]
        ours, baseline = (statistics.median(s[key] for s in side) * scale for side in (self.ours, self.baseline))
        return Row(what, ours, unit, baseline, statistics.median(ratios), target)

    def same(self, what: str, *keys: str) -> Check:
        """The check that every sample of both sides has one and the same value."""
        return Check(what, all(len({s[key] for s in (*self.ours, *self.baseline)}) == 1 for key in keys))


def _share(ours: float, baseline: float) -> float:
    return ours / baseline if baseline else float("inf")


def unjudged(section: Section) -> Section:
    """The section without its targets, for a run too short to judge by them."""
    return replace(section, rows=tuple(replace(row, target=None) for row in section.rows))


def failures(sections: Sequence[Section]) -> list[str]:
    """Checks that failed and targets that were missed."""
    checks = [f"{s.title}: {check.what}" for s in sections for check in s.checks if not check.good]
    return checks + [f"{s.title}: {row.what}" for s in sections for row in s.rows if row.met is False]


def document(machine: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    """The JSON document of a run."""
    return {
        "machine": dict(machine),
        "sections": [
            {
                "title": section.title,
                "method": section.method,
                "rows": [_row_document(row) for row in section.rows],
                "checks": [{"what": check.what, "good": check.good} for check in section.checks],
            }
            for section in sections
        ],
    }


def _row_document(row: Row) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "what": row.what,
        "unit": row.unit,
        "baseline": _significant(row.baseline),
        "ours": _significant(row.ours),
        "ratio": _significant(row.ratio),
    }
    if row.target is not None:
        figures |= {"target": _target_text(row.target, row.unit), "met": row.met}
    return figures


def markdown(machine: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The report of a run for people."""
    head = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    return f"# {machine['name']}\n\n{head}\n\n" + "\n".join(section_markdown(section) for section in sections)


def section_markdown(section: Section) -> str:
    """One section as a heading, its method, a table and its checks."""
    lines = [f"## {section.title}", "", section.method, ""]
    lines += ["| what | baseline | ours | ours / baseline | target | met |", "|---|---:|---:|---:|---|---|"]
    lines += [_row_markdown(row) for row in section.rows]
    lines += [f"| {check.what} | | | | yes | {_yes(check.good)} |" for check in section.checks]
    return "\n".join(lines) + "\n"


def _row_markdown(row: Row) -> str:
    cells = (
        row.what,
        _with_unit(row.baseline, row.unit),
        _with_unit(row.ours, row.unit),
        "" if row.ratio is None else share_text(row.ratio),
        "" if row.target is None else _target_text(row.target, row.unit),
        "" if row.met is None else _yes(row.met),
    )
    return "| " + " | ".join(cells) + " |"


def _target_text(target: Target, unit: str) -> str:
    limit = share_text(target.limit) if target.of == "ratio" else f"{target.limit:g} {unit}"
    return f"{'≥' if target.least else '≤'} {limit}"


def share_text(share: float) -> str:
    """0.83 as it is, 0.02 as 1/50."""
    return f"1/{figure(1 / share)}" if 0 < share <= 0.2 else figure(share)


def _with_unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{figure(value)} {unit}"


def figure(value: float) -> str:
    """Three significant digits, from 100 on all before the point; without an exponent."""
    if abs(value) >= 100 or not math.isfinite(value):
        return f"{value:,.0f}"
    return f"{Decimal(f'{value:.3g}'):f}"


def _significant(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _yes(good: bool) -> str:
    return "yes" if good else "**no**"
