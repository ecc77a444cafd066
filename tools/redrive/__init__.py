"""`sam3 redrive`: look into a dead-letter subscription, and send messages back to where they failed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from service.arguments import subscription_name, topic_name
from tools.redrive.choice import age_or_time


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 redrive`."""
    parser = subparsers.add_parser(
        "redrive",
        help=purpose,
        description=f"{purpose}. Nothing is changed without --go.",
        epilog="Exit status: 0 as asked; 1 some could not be sent back, or there was trouble; 2 usage.",
    )
    parser.add_argument("subscription", type=subscription_name, metavar="projects/P/subscriptions/S")
    what = parser.add_argument_group("what to do")
    what.add_argument("--go", action="store_true", help="really do it; a message leaves once it is safe elsewhere")
    what.add_argument(
        "--to", type=topic_name, metavar="projects/P/topics/T", help="send to this topic, not to that of the source"
    )
    what.add_argument("--discard", action="store_true", help="drop the chosen messages instead of sending them back")
    what.add_argument(
        "--save", type=Path, metavar="FILE", help="with --go: first write them to a new file, a JSON object a line"
    )
    what.add_argument("--json", action="store_true", help="a JSON object a line, without the messages' data")
    which = parser.add_argument_group("which messages (all of these must hold)")
    which.add_argument("--id", action="append", default=[], metavar="ID", help="this message; repeatable")
    which.add_argument("--reason", metavar="TEXT", help="the reason contains it, in any case")
    which.add_argument("--object", metavar="GLOB", help="what it is about: gs://bucket/name or the name alone")
    which.add_argument(
        "--older-than", type=age_or_time, metavar="AGE", help="such as 90m, 12h, 7d or 2026-01-31T12:00Z"
    )
    which.add_argument("--newer-than", type=age_or_time, metavar="AGE")
    which.add_argument("--limit", type=_positive, metavar="N", help="stop after so many")
    look = parser.add_argument_group("how to look")
    look.add_argument(
        "--idle", type=float, default=10.0, metavar="SECONDS", help="end when nothing has come for so long (10)"
    )
    look.add_argument(
        "--hold", type=_positive, default=100_000, metavar="N", help="end with so many left as they are (100000)"
    )
    parser.set_defaults(run=_run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a whole number from 1")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from tools.redrive.command import run

    return run(arguments)
