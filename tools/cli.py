"""The `sam3` command: one file per subcommand, each with `register(subparsers)`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tools import demo, evaluate, local


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status is its own."""
    parser = argparse.ArgumentParser(prog="sam3", description="Tools around the SAM 3 service.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, local, evaluate):
        command.register(subparsers)
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed)
    return status
