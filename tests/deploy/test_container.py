"""The image itself, where docker or podman runs: built for a CPU, then through all that a deployment relies on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT
from tools import cli

NAME = "sam3-service:test-of-the-image"


def _answering() -> str | None:
    """The engine whose daemon answers, if it needs one."""
    for program in ("docker", "podman"):
        if shutil.which(program) and not subprocess.run([program, "info"], capture_output=True).returncode:
            return program
    return None


def _default(variable: str) -> str:
    """What the Makefile takes: the builds of torch for a CPU."""
    found = re.search(rf"^{variable} \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.timeout(3600)
def test_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = _answering()
    if engine is None:
        pytest.skip("neither docker nor podman answers here: the image is not built")
    arguments = [f"--build-arg={name}={_default(name)}" for name in ("TORCH_INDEX_URL", "TORCH_VERSION")]
    subprocess.run([engine, "build", *arguments, "--tag", NAME, ROOT], check=True)
    status = cli.main(["image", "check", NAME, "--engine", engine, "--out", str(tmp_path)])
    assert status == 0, capsys.readouterr().err
