"""`sam3 bench`: this service beside the one-file service that it grew from, on the same weights, in the same run.

Nothing heavy is imported here: `gpu.py` uses parts of this package on machines that have torch and little else.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 bench`."""
    parser = subparsers.add_parser("bench", help=purpose, description=purpose)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these measurements alone")
    parser.add_argument("--quick", action="store_true", help="a small share in seconds; targets are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write both there, named for this machine")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", default=Path(".bench"), help="for checkpoints (.bench)")
    parser.add_argument("--keep", action="store_true", help="leave the full-size checkpoint (7 GB) in the cache")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.bench.suite import run

    return run(arguments)
