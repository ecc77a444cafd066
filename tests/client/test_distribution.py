"""The client without the service: what it needs is what it says, and its own distribution has all of it."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "sam3_client"
PROJECT: dict[str, Any] = tomllib.loads((CLIENT / "pyproject.toml").read_text())
PACKAGES = {"PIL": "pillow", "google": "google-auth"}


def imported(*, lazily: bool) -> set[str]:
    """What the modules import, but for the standard library: at their head, or within functions."""
    found = set()
    for file in CLIENT.glob("*.py"):
        tree = ast.parse(file.read_text())
        inner = {id(node) for body in ast.walk(tree) if isinstance(body, ast.FunctionDef) for node in ast.walk(body)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and (id(node) in inner) == lazily:
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                found.add(str(module).split(".")[0])
    return {PACKAGES.get(name, name) for name in found - sys.stdlib_module_names - {"sam3_client"}}


def names(requirements: list[str]) -> dict[str, str]:
    return {each.partition(">=")[0]: each for each in requirements}


def test_it_needs_what_it_imports() -> None:
    assert imported(lazily=False) == set(names(PROJECT["project"]["dependencies"]))
    optional = names(PROJECT["project"]["optional-dependencies"]["all"])
    assert imported(lazily=True) - {"urllib3"} == set(optional)


def test_it_asks_for_no_other_versions_than_the_service() -> None:
    whole = names(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    ours = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["all"]
    assert {name: whole[name] for name in names(ours) if name in whole} == {
        name: each for name, each in names(ours).items() if name in whole
    }


def test_it_is_one_folder() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"] == ["sam3_client"]
    assert list(CLIENT.glob("*/__init__.py")) == []
