"""Ways to run something in an image as a deployment does: its own user, no privileges, nothing writable but /tmp."""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

_SERVICE = ("python", "-m", "service")


class Runner(Protocol):
    """Makes commands that run in an image."""

    def command(self, names: Iterable[str], arguments: Sequence[str] = ()) -> list[str]:
        """A command for `subprocess` that runs `arguments`, or what the image itself starts.

        The variables `names` reach it with the values that they have for the command; SIGTERM to the command does, and
        the exit status is its own. One command runs at a time.
        """

    def close(self) -> None:
        """End what a command has left running."""


@dataclass(frozen=True)
class Engine:
    """docker, or podman, which has the same options; on the host's network, where the local cloud is.

    A container is no child of the command that runs it: it stays when that is killed, until `close`.
    """

    program: str
    image: str
    container: str = field(default_factory=lambda: f"sam3-image-check-{secrets.token_hex(4)}")

    def command(self, names: Iterable[str], arguments: Sequence[str] = ()) -> list[str]:
        """See Runner."""
        confined = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
        variables = (f"--env={name}" for name in names)
        named = ("--rm", f"--name={self.container}", "--network=host")
        return [self.program, "run", *named, *confined, *variables, self.image, *arguments]

    def close(self) -> None:
        """See Runner; there is mostly none left, which the program then calls an error."""
        subprocess.run([self.program, "rm", "--force", self.container], capture_output=True, check=False)


@dataclass(frozen=True)
class Here:
    """This process runs in the image already, and whoever started it has confined it."""

    def command(self, names: Iterable[str], arguments: Sequence[str] = ()) -> list[str]:
        """See Runner."""
        return [sys.executable, *(arguments or _SERVICE)[1:]]

    def close(self) -> None:
        """See Runner; a command is what runs, and nothing beside it."""


@dataclass(frozen=True)
class Unpacked:
    """An image's file tree, without an engine: mounts of its own, and chroot as the image's user. Needs root."""

    root: Path
    user: str
    environment: Mapping[str, str]
    start: tuple[str, ...]
    folder: str

    @classmethod
    def of(cls, root: Path, config: Mapping[str, Any]) -> Self:
        """Read the image's configuration: https://github.com/opencontainers/image-spec/blob/main/config.md."""
        settings = config.get("config", config)
        environment = dict(entry.split("=", 1) for entry in settings.get("Env", ()))
        start = (*(settings.get("Entrypoint") or ()), *(settings.get("Cmd") or ()))
        return cls(root, settings.get("User") or "0:0", environment, start, settings.get("WorkingDir") or "/")

    def command(self, names: Iterable[str], arguments: Sequence[str] = ()) -> list[str]:
        """See Runner."""
        root = shlex.quote(str(self.root))
        given = " ".join(f'{name}="${name}"' for name in names)
        own = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        inside = f'cd {shlex.quote(self.folder)} && exec "$@"'
        script = f"""set -e
mount --bind {root} {root}
mount -o remount,bind,ro {root}
mount -t tmpfs tmpfs {root}/tmp
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
exec env -i {own} {given} chroot --userspec={self.user} {root} /bin/sh -c {shlex.quote(inside)} sh "$@"
"""
        return ["unshare", "--mount", "sh", "-c", script, "sh", *(arguments or self.start)]

    def close(self) -> None:
        """See Runner; a command is what runs, and nothing beside it."""


def unpacked(root: Path, config: Path) -> Unpacked:
    """The runner of a folder and a file with the image's configuration."""
    return Unpacked.of(root.resolve(), json.loads(config.read_text()))
