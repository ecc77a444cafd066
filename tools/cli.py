"""The `sam3` command: one file per subcommand, each with `register(subparsers, purpose)`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "demo": "run the whole event path on an embedded local cloud",
    "local": "the local cloud on its own: Cloud Storage and Pub/Sub emulators",
    "convert": "an official or fine-tuned sam3.pt into the folder that the default engine loads",
    "settings": "every setting as the service would read it here, and where it comes from",
    "openapi": "the OpenAPI document of the service",
    "evaluate": "score a model on held-out drawn scenes",
    "pull": "do the work of a pull subscription's events",
    "status": "what is done, missing or failed under gs://bucket/prefix",
    "redrive": "look into a dead-letter subscription, and send messages back",
    "model": "store a checkpoint in a bucket or folder as the service loads it, or check one",
    "image": "check a built container image",
    "cost": "what 1,000 images cost on Cloud Run",
    "deployed": "commands to try what Terraform has made with",
    "soak": "thousands of events, lost calls, kills; checks that nothing is lost",
    "bench": "measure this service beside the one it grew from",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status is its own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="sam3", description="Tools around the SAM 3 service.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        if given[:1] == [name]:
            # Only the one that runs is imported: torch and Google's clients take seconds.
            import_module(f"tools.{name}").register(subparsers, purpose)
        else:
            subparsers.add_parser(name, help=purpose)
    parsed = parser.parse_args(given)
    status: int = parsed.run(parsed)
    return status


if __name__ == "__main__":
    sys.exit(main())
