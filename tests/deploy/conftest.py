from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.deployment import Deployment, deployment_in, why_not
from tests.deploy.standin.command import Terraform


@pytest.fixture(scope="session")
def _terraform_is_installed() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def deployment(_terraform_is_installed: None, tmp_path: Path) -> Iterator[Deployment]:
    with deployment_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def terraform(_terraform_is_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    """For what makes nothing."""
    with deployment_in(tmp_path_factory.mktemp("terraform")) as made:
        yield made.terraform
