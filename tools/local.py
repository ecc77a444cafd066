"""`sam3 local up`: the local cloud on its own, for development against it."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from google.api_core.exceptions import GoogleAPIError

from tools.localcloud.cloud import LocalCloud
from tools.localcloud.process import ProcessError
from tools.localcloud.pubsub.duplicates import duplicate_rate
from tools.localcloud.settings import LocalCloudSettings

CHECK_EVERY_S = 0.5


def register(subparsers: Any, purpose: str) -> None:
    """Add `sam3 local`."""
    parser = subparsers.add_parser("local", help=purpose, description=purpose)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start it in the foreground; Ctrl-C stops it")
    up.add_argument("--push-to", metavar="URL", help="push events there, e.g. http://127.0.0.1:8080/events")
    up.add_argument("--input-bucket", action="append", metavar="NAME", help="repeatable")
    up.add_argument("--output-bucket", default=LocalCloudSettings.output_bucket, metavar="NAME")
    up.add_argument("--storage-root", type=Path, metavar="FOLDER", help="keep the objects there, not in memory")
    up.add_argument("--storage-port", type=int, default=0, help="default: a free one")
    up.add_argument("--pubsub-port", type=int, default=0, help="default: a free one")
    up.add_argument(
        "--duplicate-rate", type=duplicate_rate, default=0.0, help="share of messages delivered again though acked"
    )
    up.add_argument("--json", action="store_true", help="print the environment as JSON instead of exports")
    up.add_argument("--port-file", type=Path, metavar="FILE", help="also write the environment there, as JSON")
    up.set_defaults(run=run_up)


def run_up(arguments: argparse.Namespace) -> int:
    """Start, print the environment for a service, and wait for a signal; 1 if an emulator fails or refuses a name."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with LocalCloud(_settings(arguments)) as cloud:
            if arguments.push_to:
                cloud.push_to(arguments.push_to)
            _announce(cloud.environment(), arguments)
            while not stop.wait(CHECK_EVERY_S):
                cloud.check()
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1
    except (GoogleAPIError, OSError) as error:
        print(f"the local cloud cannot be set up: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


def _settings(arguments: argparse.Namespace) -> LocalCloudSettings:
    return LocalCloudSettings(
        input_buckets=tuple(arguments.input_bucket or LocalCloudSettings.input_buckets),
        output_bucket=arguments.output_bucket,
        storage_root=arguments.storage_root,
        storage_port=arguments.storage_port,
        pubsub_port=arguments.pubsub_port,
        duplicate_rate=arguments.duplicate_rate,
    )


def _announce(environment: dict[str, str], arguments: argparse.Namespace) -> None:
    document = json.dumps(environment, indent=2)
    if arguments.port_file is not None:
        # Renamed into place: whoever waits for the file never reads half of it.
        unfinished = arguments.port_file.with_name(f"{arguments.port_file.name}.part")
        unfinished.write_text(document)
        unfinished.replace(arguments.port_file)
    if arguments.json:
        print(document, flush=True)
        return
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")
    print("# the local cloud is up; Ctrl-C stops it", flush=True)
