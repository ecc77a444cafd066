"""`sam3 openapi`: the OpenAPI document of the service with its default limits, as docs/openapi.json keeps it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from service.core.prompts import Limits
from service.web import openapi


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 openapi`."""
    parser = subparsers.add_parser("openapi", help=purpose, description=purpose)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there (default: standard output)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print or write it; 1 when it cannot be written."""
    if not arguments.out:
        print(text(), end="")
        return 0
    try:
        arguments.out.write_text(text(), encoding="utf-8")
    except OSError as error:
        print(f"--out: '{arguments.out}' cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def text() -> str:
    """The document as it is committed."""
    return openapi.text(Limits())
