"""`sam3 pull`: the service as a consumer that pulls; the same as `python -m service.pull`."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from service import pull


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 pull`."""
    parser = subparsers.add_parser("pull", help=purpose, description=purpose)
    pull.add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> NoReturn:
    """Become `python -m service.pull`."""
    given = ["--subscription", arguments.subscription, "--grace", str(arguments.grace)]
    if arguments.health_port is not None:
        given += ["--health-port", str(arguments.health_port)]
    pull.restart_in(os.environ, given)
