from __future__ import annotations

import pytest

from tools.bench.doors import busy_share
from tools.bench.machine import slug
from tools.bench.report import (
    Check,
    Pairs,
    Row,
    Section,
    Target,
    document,
    failures,
    figure,
    section_markdown,
    share_text,
    unjudged,
)


def section(*rows: Row, good: bool = True) -> Section:
    return Section("Masks", "How.", rows, (Check("identical", good),))


def test_a_pair_is_compared_with_its_own_partner() -> None:
    pairs = Pairs([{"s": 1.0}, {"s": 10.0}, {"s": 2.0}], [{"s": 0.5}, {"s": 2.0}, {"s": 1.0}])
    row = pairs.row("what", "s", "ms", scale=1000)
    assert (row.baseline, row.ours, row.ratio) == (2000, 1000, 0.5)  # the median of 0.5, 0.2 and 0.5


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(0.5), True),
        (Target(0.4), False),
        (Target(10, of="ours"), True),
        (Target(9, of="ours"), False),
        (Target(10, of="ours", least=True), True),
        (Target(11, of="ours", least=True), False),
    ],
)
def test_targets(target: Target, met: bool) -> None:
    assert Row("what", 10, "ms", 20, 0.5, target).met is met


def test_a_target_on_a_ratio_that_is_missing_is_missed() -> None:
    assert Row("what", 10, "ms", target=Target(1)).met is False


def test_failures_name_missed_targets_and_failed_checks() -> None:
    missed = section(Row("slow", 10, "ms", target=Target(5, of="ours")), Row("free", 1, "ms"))
    assert failures([missed]) == ["Masks: slow"]
    assert failures([unjudged(missed)]) == []
    assert failures([section(good=False)]) == ["Masks: identical"]


def test_same_needs_every_sample_of_both_sides() -> None:
    assert Pairs([{"sha": "a"}], [{"sha": "a"}]).same("identical", "sha").good
    assert not Pairs([{"sha": "a"}, {"sha": "b"}], [{"sha": "a"}, {"sha": "b"}]).same("identical", "sha").good


def test_the_table() -> None:
    row = Row("50 instances", 0.28, "s", 21.3, 0.0131, Target(1 / 30))
    assert section_markdown(section(row)).splitlines()[-2:] == [
        "| 50 instances | 21.3 s | 0.28 s | 1/76.3 | ≤ 1/30 | yes |",
        "| identical | | | | yes | yes |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00001, "0.00001"),
        (0.0012345, "0.00123"),
        (0.28, "0.28"),
        (-11.3, "-11.3"),
        (99.96, "100"),
        (9155.2, "9,155"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_a_figure_has_no_exponent(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.83, "0.83"), (1 / 30, "1/30"), (1 / 1025.3, "1/1,025"), (0, "0"), (1234.5, "1,234"), (float("inf"), "inf")],
)
def test_a_share_has_no_exponent(share: float, text: str) -> None:
    assert share_text(share) == text


def test_the_document() -> None:
    row = Row("50 instances", 0.28, "s", 21.3, 0.0131, Target(1 / 30))
    [found] = document({"name": "a machine"}, [section(row)])["sections"]
    assert found["rows"] == [
        {
            "what": "50 instances",
            "unit": "s",
            "baseline": 21.3,
            "ours": 0.28,
            "ratio": 0.0131,
            "target": "≤ 1/30",
            "met": True,
        }
    ]
    assert found["checks"] == [{"what": "identical", "good": True}]


def test_a_machine_as_the_name_of_a_file() -> None:
    assert slug("AMD EPYC 7B13, 2 cores, 24 GiB, torch 2.13.0+cpu") == "amd-epyc-7b13-2-cores-24-gib-torch-2.13.0-cpu"


def test_neither_the_start_nor_the_end_of_a_run_counts_as_idle() -> None:
    def clock(now_s: float, busy_s: float, prompts: int) -> dict[str, float]:
        return {"now_s": now_s, "busy_s": busy_s, "prompts": prompts}

    clocks = [clock(0, 0, 5), clock(5, 1, 25), clock(6, 1.9, 55), clock(7, 2.8, 85), clock(20, 4, 105)]
    assert busy_share(clocks) == pytest.approx(0.9)
    assert busy_share(clocks[:1]) == 0
