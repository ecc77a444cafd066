"""The examples of the docs: whole blocks of Python and JavaScript, single curl commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/api.md")
RUNNERS = {"sh": ["bash", "-euc"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
_IMAGES = ("photo.jpg", "kitchen.jpg", "service/models/demo/scene.png")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One example as it stands; `where` is its page and line."""

    where: str
    language: str
    text: str

    @property
    def in_a_bucket(self) -> bool:
        """Whether it names an image in Cloud Storage."""
        return "gs://" in self.text

    def run(self, url: str, folder: Path, more: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run it in `folder` against the service at `url`, which `$SERVICE` and http://localhost:8080 stand for.

        `more` is what it finds in its environment too. Returns what it prints.
        """
        runner = RUNNERS[self.language]
        program = "curl" if self.language == "sh" else runner[0]
        if shutil.which(program) is None:
            pytest.skip(f"{self.where}: {self.language} examples need {program}")
        environment = {**os.environ, "HOME": str(folder), "SERVICE": url, "PYTHONPATH": str(ROOT), **more}
        code = self.text.replace("http://localhost:8080", url)
        done = subprocess.run([*runner, code], cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{self.where}\n{self.text}\n{done.stdout}\n{done.stderr}"
        if self.language == "sh":
            assert "results" in json.loads(done.stdout)
        else:
            assert done.stdout.strip(), "an example shows something"
        return done.stdout


def examples_of(page: str) -> list[Example]:
    """The examples of a page, in their order."""
    found: list[Example] = []
    text = (ROOT / page).read_text()
    for block in _FENCE.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        language, body = block.groups()
        wanted = [body] if language in ("python", "js") else []
        if language == "sh":
            wanted = [c for c in body.replace("\\\n", " ").splitlines() if c.startswith("curl ")]
        found += [Example(f"{page}:{line}-{i}", language, each) for i, each in enumerate(wanted)]
    return found


EXAMPLES = [example for page in PAGES for example in examples_of(page)]


def prepare(folder: Path) -> Path:
    """Put into `folder` the images that examples name."""
    scene = files("service").joinpath("models/demo/scene.png").read_bytes()
    for name in _IMAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(scene)
    # curl fails where the service answers with an error, and shows what it said.
    (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    return folder
