from __future__ import annotations

import json

import pytest

from tests.deploy import graph
from tests.deploy.deployment import CONFIGURATION
from tests.deploy.standin.command import Terraform

FILES = sorted(path.name for path in (CONFIGURATION / "tests").glob("*.tftest.hcl"))


def test_there_are_tests() -> None:
    assert len(FILES) >= 8


def test_formatted(terraform: Terraform) -> None:
    done = terraform.run("fmt", "-check", "-recursive", "-diff")
    assert done.returncode == 0, done.stdout


def test_valid_without_a_warning(terraform: Terraform) -> None:
    done = terraform.run("validate", "-json")
    answer = json.loads(done.stdout)
    assert answer["diagnostics"] == []
    assert answer["valid"]


@pytest.mark.parametrize("name", FILES)
def test_configuration(terraform: Terraform, name: str) -> None:
    done = terraform.run("test", "-no-color", f"-filter=tests/{name}")
    assert done.returncode == 0, done.stdout
    assert ", 0 failed" in done.stdout


def test_everything_waits_for_what_it_needs(terraform: Terraform) -> None:
    done = terraform.run("graph")
    assert done.returncode == 0, done.stdout
    assert list(graph.violations(graph.parse(done.stdout))) == []


def test_a_missing_edge_is_told() -> None:
    dot = '  "google_storage_notification.uploads" [label="x"];\n  "google_pubsub_topic.all" [label="x"];\n'
    told = list(graph.violations(graph.parse(dot)))
    assert any("uploads does not wait for google_pubsub_subscription.work" in line for line in told)
    assert any("all does not wait for google_project_service.apis" in line for line in told)
