"""`sam3 bench --quick` runs everything and finds the same on both sides; times are nobody's business here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench.suite import MEASUREMENTS

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from tools.cli import main; sys.exit(main())", "bench", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measures_and_agrees(name: str, tmp_path: Path) -> None:
    done = bench("--quick", "--only", name, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    [report] = (tmp_path / "out").glob("*.json")
    document = json.loads(report.read_text())
    [section] = document["sections"]
    assert section["rows"]
    assert all(row["ours"] is not None and "met" not in row for row in section["rows"])
    assert all(check["good"] for check in section["checks"])
    tables = report.with_suffix(".md").read_text()
    assert tables.startswith(f"# {document['machine']['name']}\n")
    assert all(row["what"] in tables for row in section["rows"])
    if name == "start":
        ours = {row["what"].removeprefix("embedded model, "): row["ours"] for row in section["rows"]}
        assert ours["until ready"] < ours["until the first answer"]
        assert ours["peak memory until ready"] <= ours["peak memory until the first answer"]


def test_every_measurement_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/benchmarks/README.md").read_text(), re.MULTILINE)
    assert tuple(rows) == MEASUREMENTS


def test_an_unknown_measurement_is_one_line() -> None:
    done = bench("--only", "speed")
    assert done.returncode == 2
    assert done.stderr == f"--only: 'speed' is not allowed; allowed: {', '.join(MEASUREMENTS)}\n"
