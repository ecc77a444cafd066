"""`sam3 settings`: every setting as the service would read it here, and where it comes from."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import SecretStr

from service.settings import BadSetting, Settings, variable

DEFAULT = "default"


@dataclass(frozen=True)
class Row:
    """One setting: its value, a secret's masked, and the variable that it comes from, or `default`."""

    name: str
    value: Any
    source: str


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 settings`."""
    parser = subparsers.add_parser("settings", help=purpose, description=purpose)
    parser.add_argument("--set", action="store_true", help="only what the environment sets")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table: 0; 1 and the one line that names it for a setting that would stop the start."""
    try:
        found = [row for row in rows(os.environ) if not arguments.set or row.source != DEFAULT]
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({row.name: asdict(row) for row in found}, indent=1) if arguments.json else _table(found))
    return 0


def rows(env: Mapping[str, str]) -> Iterator[Row]:
    """Each setting in the order of docs/settings.md. Raises BadSetting."""
    settings = Settings.from_environment(env)
    for field in Settings.model_fields:
        name = field.upper()
        yield Row(name, _shown(getattr(settings, field)), variable(env, name) or DEFAULT)


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "********"
    return list(value) if isinstance(value, tuple) else value


def _table(found: list[Row]) -> str:
    lines = [(row.name, _text(row.value), row.source) for row in found]
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}" for name, value, source in lines)


def _text(value: Any) -> str:
    if value in (None, "", []):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
