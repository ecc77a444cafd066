from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.cli import main
from tools.evaluate import updated

MARKED = "before\n<!-- sam3 evaluate -->\nold\n<!-- end of sam3 evaluate -->\nafter\n"


def test_tables_go_between_the_marks_and_nowhere_else() -> None:
    once = updated(MARKED, "| new |")
    assert once.startswith("before\n<!--") and once.endswith("-->\nafter\n")
    assert "| new |" in once and "old" not in once
    assert updated(once, "| new |") == once


@pytest.mark.parametrize("text", ["", "no marks", "<!-- sam3 evaluate --> and no end"])
def test_a_document_without_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        updated(text, "| new |")


def test_a_model_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", "/no/such"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "'/no/such' is not a folder" in said.err


def test_a_few_scenes_through_the_services_segmenter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are of few scenes; that they are not empty, and agree in all three places, is what is checked."""
    document, counts = tmp_path / "model.md", tmp_path / "counts.json"
    document.write_text(MARKED)
    assert main(["evaluate", "--scenes", "6", "--update", str(document), "--json", str(counts)]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed in document.read_text()
    whole = json.loads(counts.read_text())["kinds"]["all"]
    assert 25 < whole["pairs"] <= 30
    assert whole["matched"] > whole["instances"] / 3
    assert f"| all | {whole['pairs']} | {whole['instances']} |" in printed
    assert "| 4000 × 3000 | " in printed
