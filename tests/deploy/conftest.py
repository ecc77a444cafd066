from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.standin.command import Terraform
from tests.deploy.standin.provider import Provider
from tests.deploy.standin.schema import load
from tests.deploy.standin.server import serving

CONFIGURATION = Path(__file__).parents[2] / "terraform"
SCHEMA = Path(__file__).parent / "standin" / "google.schema.json"
OLDEST = (1, 9)  # as in terraform/versions.tf


def why_not() -> str:
    """Why `terraform` cannot be run here; "" when it can."""
    if shutil.which("terraform") is None:
        return "terraform is not installed: its configuration is NOT checked"
    answer = subprocess.run(["terraform", "version", "-json"], capture_output=True, check=True)
    version = json.loads(answer.stdout)["terraform_version"]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return f"terraform {version} is older than 1.9: the configuration is NOT checked"
    return ""


@pytest.fixture(scope="session")
def schema() -> dict[str, object]:
    return load(SCHEMA)


@pytest.fixture(scope="session")
def terraform(schema: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    """`terraform`, initialized, with a stand-in that nothing is made in."""
    if reason := why_not():
        pytest.skip(reason)
    with serving(Provider(schema)) as attached:
        command = Terraform(CONFIGURATION, tmp_path_factory.mktemp("terraform"), attached)
        done = command.init()
        assert done.returncode == 0, done.stdout
        yield command
