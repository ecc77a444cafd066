"""`sam3 soak`: thousands of events through a service that is killed on the way, in a cloud that loses calls."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 soak`."""
    parser = subparsers.add_parser("soak", help=purpose, description=purpose)
    parser.add_argument("--quick", action="store_true", help="a small share of it, in less than a minute")
    parser.add_argument("--images", type=int, metavar="N", help="how many (2000; quick: 60)")
    parser.add_argument("--kills", type=int, metavar="N", help="kill -9 of the service on the way (5; quick: 1)")
    parser.add_argument("--terms", type=int, metavar="N", help="SIGTERM of the service on the way (2; quick: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")
    parser.add_argument("--folders", action=argparse.BooleanOptionalAction, default=True, help="prompts of folders too")
    parser.add_argument(
        "--jobs", action=argparse.BooleanOptionalAction, default=True, help="jobs on the jobs topic too"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there, as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.soak.run import run

    return run(arguments)
