"""The tables of docs/terraform.md, from the configuration itself: `python -m tests.deploy.tables` prints them."""

from __future__ import annotations

import re
import sys
from typing import Any

import hcl2

from tests.deploy.deployment import CONFIGURATION

Declared = dict[str, dict[str, Any]]


def declared(kind: str) -> Declared:
    """Every `variable` or `output` block of the configuration by its name."""
    found: Declared = {}
    for path in sorted(CONFIGURATION.glob("*.tf")):
        with path.open() as file:
            for block in hcl2.load(file).get(kind, []):
                found.update({name.strip('"'): body for name, body in block.items()})
    return found


def variables_table() -> str:
    """Name, type, default and meaning of each variable, in the order of variables.tf."""
    rows = [
        f"| `{name}` | {_type(body)} | {_default(body)} | {text(body['description'])} |"
        for name, body in declared("variable").items()
    ]
    return "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def outputs_table() -> str:
    """Name and meaning of each output."""
    rows = [f"| `{name}` | {text(body['description'])} |" for name, body in declared("output").items()]
    return "\n".join(["| output | meaning |", "|---|---|", *rows]) + "\n"


def text(literal: str) -> str:
    """The words of a string literal."""
    return literal.removeprefix('"').removesuffix('"').replace('\\"', '"').replace("\\\\", "\\").replace("|", "\\|")


def _type(body: dict[str, Any]) -> str:
    written = _unwrapped(body["type"])
    return "object" if written.startswith("object") else re.sub(r"(\w+)\((\w+)\)", r"\1 of \2", written)


def _default(body: dict[str, Any]) -> str:
    if "default" not in body:
        return "**required**"
    value = body["default"]
    if value in (None, [], {}, '""'):
        return "–"
    return f"`{_literal(value)}`"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {each}" for key, each in value.items() if not key.startswith("__")) + " }"
    return text(str(value))


def _unwrapped(expression: str) -> str:
    return expression.removeprefix("${").removesuffix("}")


if __name__ == "__main__":
    sys.stdout.write(f"{variables_table()}\n{outputs_table()}")
