"""What the Dockerfile promises and no build shows: what is cached, what is deployed, what leaks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import COMMAND
from tests.deploy.dockerfile import DOCKERFILE, ROOT, exec_form, read
from tools.ports import free_port

IMAGE = read()


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_stage_starts_from_one_base() -> None:
    bases = {stage.base for stage in IMAGE.stages.values() if stage.base not in IMAGE.stages}
    assert bases == {"debian:bookworm-slim"}


def test_the_heavy_layers_depend_on_the_locks_alone() -> None:
    """A change of the code must not install torch or the packages again."""
    for name in ("torch", "dependencies"):
        for stage in IMAGE.line(IMAGE.stages[name]):
            assert [source for source in stage.copied() if not source.startswith("requirements/")] == [], stage.name


def test_the_parts_of_the_image_change_ever_more_often() -> None:
    copies = [arguments.split()[-1] for arguments in IMAGE.stages["runtime"].of("COPY")]
    assert copies == ["/opt/torch", "/opt/model", "/opt/venv", "/app"]


def test_all_that_is_copied_is_in_the_context() -> None:
    """.dockerignore lets through what it names, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    named = {line[1:] for line in lines if line.startswith("!")}
    copied = [source for stage in IMAGE.stages.values() for source in stage.copied()]
    assert {source.split("/")[0] for source in copied} == named
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_it_runs_as_somebody_who_is_not_root() -> None:
    user, _, group = IMAGE.last("USER").partition(":")
    assert int(user) >= 1000  # a number: Kubernetes' runAsNonRoot cannot look up names
    assert int(group) >= 1000


def test_it_starts_as_the_service_says() -> None:
    assert exec_form(IMAGE.last("CMD")) == ["python", "-m", "service"]
    assert COMMAND[1:3] == ["-m", "gunicorn"]
    assert [stage.name for stage in IMAGE.image if stage.of("ENTRYPOINT")] == []
    assert IMAGE.last("STOPSIGNAL") == "SIGTERM"


def test_no_secret_is_an_argument_or_a_variable() -> None:
    """Both are in the image's history for everybody who may pull it."""
    declared = " ".join(
        [*IMAGE.arguments, *(text for s in IMAGE.stages.values() for text in s.of("ARG") + s.of("ENV"))]
    )
    assert re.findall(r"\b\w*(?:token|secret|password|api_?key)\w*\b", declared, re.IGNORECASE) == []
    assert "--mount=type=secret,id=hf_token" in " ".join(IMAGE.stages["hub"].of("RUN"))


def test_the_health_check_knows_good_from_bad(service: Any) -> None:
    command = [sys.executable, *exec_form(IMAGE.last("HEALTHCHECK"))[1:]]

    def check(port: int) -> int:
        environment = os.environ | {"PORT": str(port)}
        return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, timeout=30).returncode

    assert check(service.port) == 0
    assert check(free_port()) != 0


@pytest.mark.parametrize("file", ["Makefile", "cloudbuild.yaml"])
def test_one_release_of_torch_everywhere(file: str) -> None:
    found = re.search(r"^ *_?TORCH_VERSION(?: \?=|:) (\S+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert found
    assert found[1] == IMAGE.arguments["TORCH_VERSION"]


def test_every_argument_is_documented() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/operate.md").read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row)}
    declared = {text.partition("=")[0] for stage in IMAGE.stages.values() for text in stage.of("ARG")}
    assert declared
    assert declared - documented == set()
