"""`sam3 cost`, and the table in docs/operate.md that it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import cli
from tools.cost import BUSY, SECONDS, Instance, per_thousand, table

OPERATE = Path(__file__).parent.parent.parent / "docs" / "operate.md"


def test_the_formula() -> None:
    instance = Instance(gpu_price=0.0002, cpu_price=0.00001, memory_price=0.000002, cpus=4, memory_gib=16)
    assert instance.price == pytest.approx(0.000272)
    assert per_thousand(instance, seconds=0.5, busy=0.25) == pytest.approx(1000 * 0.5 * 0.000272 / 0.25)


def test_the_documented_table_is_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cost"]) == 0
    printed = capsys.readouterr().out
    assert f"\n{table(Instance(), SECONDS, BUSY)}" in printed
    assert f"<!-- sam3 cost -->\n{table(Instance(), SECONDS, BUSY)}<!-- end -->" in OPERATE.read_text()
    said = printed.splitlines()[0].removeprefix("an instance: ").removesuffix(" an hour")
    assert said == f"${Instance().price:.7f} a second, $1.42"
    assert said in OPERATE.read_text().replace("\n", " ")


def test_other_prices(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--gpu-price 0.001 --cpus 20 --memory-gib 80 --seconds 1 --busy 0.5"
    assert cli.main(["cost", *arguments.split()]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| 1 | $3.04 |"


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--busy", "0", "at most 1"),
        ("--busy", "1.5", "at most 1"),
        ("--seconds", "-1", "above 0"),
        ("--seconds", "s", ""),
    ],
)
def test_bad_values(option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["cost", option, value])
    assert caught.value.code == 2
    assert f"{option}: {value!r} is not allowed; allowed: a number above 0" in (said := capsys.readouterr().err)
    assert allowed in said
