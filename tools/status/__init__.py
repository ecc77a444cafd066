"""`sam3 status`: how far the images under gs://bucket/prefix are, from lists of the input and the output bucket."""

from __future__ import annotations

import argparse
from typing import Any

from tools.status.states import STATES


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 status`."""
    parser = subparsers.add_parser(
        "status",
        help=purpose,
        description=f"{purpose}, by counts of images. The settings are those of the service, from the environment.",
        epilog="Exit status: 0 nothing is failed, missing or outdated; 1 something is, or it cannot be told; 2 usage.",
    )
    parser.add_argument("uri", metavar="gs://BUCKET/PREFIX")
    parser.add_argument("--output", metavar="gs://BUCKET/PREFIX", help="instead of OUTPUT_BUCKET and OUTPUT_PREFIX")
    parser.add_argument(
        "--list", action="append", choices=("all", *STATES), default=[], help="name the images; repeatable"
    )
    parser.add_argument(
        "--read-sidecars",
        action="store_true",
        help="open the JSON sidecars of images that are missing or outdated, and look where their `output` says",
    )
    parser.add_argument("--json", action="store_true", help="counts as a JSON object, after a line for each name")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="look again until nothing is missing or outdated"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.status.command import run

    return run(arguments)
