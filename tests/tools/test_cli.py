"""The `sam3` command as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "tools/localcloud/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_and_explains_itself(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # argparse breaks lines at hyphens too
    text = "\n".join(page.read_text() for page in PAGES)
    assert re.search(rf"\bsam3 {command}\b", text), f"sam3 {command} is in no page"
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert f"sam3 {command}" in printed
    assert COMMANDS[command] in printed


def test_the_page_of_commands_lists_each() -> None:
    """A row of the table for each, and no row for one that is not there."""
    rows = re.findall(r"^\| `sam3 ([a-z]+)` \|", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_every_make_target_is_documented() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = "\n".join(page.read_text() for page in PAGES)
    assert {"demo", "test", "bench", "parity"} <= set(targets)
    assert [target for target in targets if f"make {target}" not in text] == []
