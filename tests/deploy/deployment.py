"""A deployment in memory: the configuration, a state file of its own, and the stand-in that it is applied to."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.deploy.standin.command import Terraform
from tests.deploy.standin.provider import Provider
from tests.deploy.standin.schema import load
from tests.deploy.standin.server import serving

CONFIGURATION = Path(__file__).parents[2] / "terraform"
SCHEMA = Path(__file__).parent / "standin" / "google.schema.json"
OLDEST = (1, 9)  # as in terraform/versions.tf
IMAGE = "us-central1-docker.pkg.dev/my-project/sam3-service/sam3-service@sha256:" + "a" * 64
GIVEN = {"project_id": "my-project", "region": "us-central1"}


def why_not() -> str:
    """Why `terraform` cannot be run here; "" when it can."""
    if shutil.which("terraform") is None:
        return "terraform is not installed: its configuration is NOT checked"
    answer = subprocess.run(["terraform", "version", "-json"], capture_output=True, check=True)
    version = json.loads(answer.stdout)["terraform_version"]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return f"terraform {version} is older than 1.9: its configuration is NOT checked"
    return ""


class Deployment:
    """Variables are those of terraform/variables.tf, as text; a status other than the given one fails the test."""

    def __init__(self, terraform: Terraform, provider: Provider, state: Path) -> None:
        self.terraform = terraform
        self.provider = provider
        self._state = f"-state={state}"

    def apply(self, **variables: str) -> dict[str, Any]:
        """The outputs."""
        self._run("apply", "-auto-approve", "-no-color", self._state, *_options(variables))
        return {name: each["value"] for name, each in json.loads(self.outputs()).items()}

    def outputs(self) -> str:
        return self._run("output", "-json", self._state)

    def plan(self, status: int, **variables: str) -> str:
        return self._run("plan", "-detailed-exitcode", "-no-color", self._state, *_options(variables), status=status)

    def destroy(self, status: int = 0, **variables: str) -> str:
        return self._run("destroy", "-auto-approve", "-no-color", self._state, *_options(variables), status=status)

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.provider.made}

    def made(self, kind: str) -> list[dict[str, Any]]:
        return [values for (each, _), values in self.provider.made.items() if each == kind]

    def _run(self, *arguments: str, status: int = 0) -> str:
        done = self.terraform.run(*arguments)
        assert done.returncode == status, done.stdout
        return done.stdout


def _options(variables: Mapping[str, str]) -> list[str]:
    return [f"-var={name}={value}" for name, value in {**GIVEN, **variables}.items()]


@contextmanager
def deployment_in(folder: Path) -> Iterator[Deployment]:
    """One that nothing has been applied to."""
    provider = Provider(load(SCHEMA))
    data = folder / "data"
    data.mkdir()
    with serving(provider) as attached:
        terraform = Terraform(CONFIGURATION, data, attached)
        done = terraform.init()
        assert done.returncode == 0, done.stdout
        yield Deployment(terraform, provider, folder / "terraform.tfstate")
