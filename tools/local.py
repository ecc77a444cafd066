"""`sam3 local up`: the local cloud on its own, for development against it."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any

from tools.localcloud.cloud import LocalCloud
from tools.localcloud.settings import LocalCloudSettings


def register(subparsers: Any) -> None:
    """Add `sam3 local`."""
    parser = subparsers.add_parser("local", help="the local cloud: Cloud Storage and Pub/Sub emulators")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start it in the foreground; Ctrl-C stops it")
    up.add_argument("--push-to", metavar="URL", help="push events there, e.g. http://127.0.0.1:8080/events")
    up.add_argument("--storage-port", type=int, default=0, help="default: a free one")
    up.add_argument("--pubsub-port", type=int, default=0, help="default: a free one")
    up.add_argument("--duplicate-rate", type=float, default=0.0, help="share of messages delivered again though acked")
    up.set_defaults(run=run_up)


def run_up(arguments: argparse.Namespace) -> int:
    """Start, print the environment for a service as shell exports, and wait for a signal."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = LocalCloudSettings(
        storage_port=arguments.storage_port,
        pubsub_port=arguments.pubsub_port,
        duplicate_rate=arguments.duplicate_rate,
    )
    with LocalCloud(settings) as cloud:
        if arguments.push_to:
            cloud.push_to(arguments.push_to)
        for name, value in cloud.environment().items():
            print(f"export {name}={value}")
        print("# the local cloud is up; Ctrl-C stops it", flush=True)
        stop.wait()
    return 0
