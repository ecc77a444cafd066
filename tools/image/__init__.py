"""`sam3 image check`: does a built image do what a deployment of it relies on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 image`."""
    parser = subparsers.add_parser("image", help=purpose, description=purpose)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="run it, unprivileged and read-only, through events and a stop",
        description="Runs the image against a local cloud: as its own user, with nothing writable but /tmp.",
        epilog="Exit status: 0 all as it should be; 1 not; 2 usage.",
    )
    where = check.add_mutually_exclusive_group(required=True)
    where.add_argument("image", nargs="?", metavar="IMAGE", help="name or id, for docker or podman")
    where.add_argument("--root", type=Path, metavar="FOLDER", help="an unpacked image; needs root and --config")
    where.add_argument("--here", action="store_true", help="this process is in the image, and confined as it should be")
    check.add_argument("--engine", choices=("docker", "podman"), default="docker", help="what runs IMAGE (docker)")
    check.add_argument("--config", type=Path, metavar="FILE", help="with --root: the image's configuration, OCI JSON")
    check.add_argument("--model", default="embedded", help="SAM3_MODEL for the check (embedded)")
    check.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for results and log (demo-out)")
    check.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from tools.image.command import run

    return run(arguments)
