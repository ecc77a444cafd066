"""The project's Dockerfile as a list of stages with their instructions."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"


@dataclass
class Stage:
    """A FROM and what follows it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """The arguments of every such instruction, in order."""
        return [arguments for found, arguments in self.instructions if found == word]

    def copied(self) -> list[str]:
        """What it copies from the build's context."""
        copies = [shlex.split(arguments) for arguments in self.of("COPY") if "--from" not in arguments]
        return [source for words in copies for source in words[:-1]]


@dataclass(frozen=True)
class Dockerfile:
    """`arguments` are those before the first stage."""

    arguments: dict[str, str]
    stages: dict[str, Stage]

    def line(self, stage: Stage) -> list[Stage]:
        """The stage and those that it is built on, the first one first."""
        below = self.stages.get(stage.base)
        return [*(self.line(below) if below else ()), stage]

    @property
    def image(self) -> list[Stage]:
        """The stages that the deployed image is built on."""
        return self.line(list(self.stages.values())[-1])

    def last(self, word: str) -> str:
        """The one that counts in the deployed image."""
        return [arguments for stage in self.image for arguments in stage.of(word)][-1]


def read() -> Dockerfile:
    """Parse it; comments are dropped and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or "image"))
        elif word and stages:
            stages[-1].instructions.append((word, rest.strip()))
        elif word:
            name, _, default = rest.partition("=")
            arguments[name] = default
    return Dockerfile(arguments, {stage.name: stage for stage in stages})


def exec_form(arguments: str) -> list[str]:
    """The words of a CMD; ValueError when it is in the shell form, which does not pass signals on."""
    words: list[str] = json.loads(arguments[arguments.index("[") :])
    return words
