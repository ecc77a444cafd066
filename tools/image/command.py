"""The checks themselves, one line of output each."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tools.demo import send_and_show
from tools.image import inside
from tools.image.runners import Engine, Here, Runner, unpacked
from tools.image.stop import stop_in_the_middle
from tools.localcloud.cloud import LocalCloud
from tools.process import ServiceProcess, running_service

# The embedded model is small: more threads only wait for each other.
_ENVIRONMENT = {"SAM3_DEVICE": "cpu", "TORCH_NUM_THREADS": "1", "MAX_PROMPTS": "1000"}


class NotAsItShouldBe(Exception):
    """What is wrong with the image, in one line."""


def run(arguments: argparse.Namespace) -> int:
    """Do all checks; 1 with the first that fails on standard error."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        check(_runner(arguments), arguments.model, arguments.out)
    except (NotAsItShouldBe, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check(runner: Runner, model: str, out: Path) -> None:
    """Raise NotAsItShouldBe, or RuntimeError when the service does not start, unless the image does as it should."""
    with closing(runner):
        _say("confined", confined(runner))
        _say("size", sizes(look_inside(runner, "parts")))
        with LocalCloud() as cloud, _service(runner, cloud, model, out) as service:
            cloud.push_to(f"{service.url}/events")
            if not send_and_show(cloud, service, out):
                raise NotAsItShouldBe("events: what was found is not what is drawn")
            _say("events", "an upload came through, with its result and its message")
            _say("stop", stop_in_the_middle(service))


def confined(runner: Runner) -> str:
    """How; NotAsItShouldBe when the image's user is root, can write more than /tmp or finds a compiler."""
    found = look_inside(runner, "confinement")
    if found["uid"] == 0:
        raise NotAsItShouldBe("confined: the image's user is root")
    if found["writable"] != ["/tmp"]:
        raise NotAsItShouldBe(f"confined: {', '.join(found['writable']) or 'nothing'} can be written, not /tmp alone")
    if found["build_tools"]:
        raise NotAsItShouldBe(f"confined: {', '.join(found['build_tools'])} in the image")
    return f"uid {found['uid']}, only /tmp can be written, no compiler"


def look_inside(runner: Runner, what: str) -> dict[str, Any]:
    """What inside.py says in the image; NotAsItShouldBe when it cannot be run there."""
    source = Path(inside.__file__).read_text()
    done = subprocess.run(runner.command((), ("python", "-c", source, what)), capture_output=True, text=True)
    if done.returncode:
        raise NotAsItShouldBe(f"nothing runs in the image: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sizes(parts: dict[str, int]) -> str:
    """The whole and its parts in MB (1e6 bytes)."""
    rest = parts["/"] - parts["/opt/torch"] - parts["/opt/model"]
    base = rest - parts["/opt/venv"] - parts["/app"]
    named = {
        "in all": parts["/"],
        "torch": parts["/opt/torch"],
        "baked model": parts["/opt/model"],
        "the rest": rest,
        "of that packages": parts["/opt/venv"],
        "service": parts["/app"],
        "system": base,
    }
    return ", ".join(f"{name} {count / 1e6:.0f} MB" for name, count in named.items())


@contextmanager
def _service(runner: Runner, cloud: LocalCloud, model: str, out: Path) -> Iterator[ServiceProcess]:
    environment = cloud.environment() | _ENVIRONMENT | {"SAM3_MODEL": model}
    command = runner.command([*environment, "PORT"])
    start = time.perf_counter()
    seen: dict[str, float] = {}

    def note(phase: str) -> None:
        seen[phase] = time.perf_counter() - start

    with running_service(environment, log_file=out / "image.log", on_phase=note, command=command) as service:
        _say("start", f"answers after {min(seen.values()):.1f} s, ready after {seen['ready']:.1f} s")
        yield service


def _runner(arguments: argparse.Namespace) -> Runner:
    if arguments.here:
        return Here()
    if arguments.root:
        if arguments.config is None:
            raise NotAsItShouldBe("--config: '' is not allowed with --root; allowed: a file")
        return unpacked(arguments.root, arguments.config)
    if not shutil.which(arguments.engine):
        raise NotAsItShouldBe(f"--engine: {arguments.engine} is not installed")
    return Engine(arguments.engine, arguments.image)


def _say(what: str, found: str) -> None:
    print(f"{what:<10}{found}", flush=True)
