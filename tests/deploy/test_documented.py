from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.deploy.deployment import CONFIGURATION, IMAGE, Deployment
from tests.deploy.tables import declared, outputs_table, text, variables_table

DOCS = Path(__file__).parents[2] / "docs"
EVERY_SETTING = {
    "model_revision": "abc",
    "input_prefix": "in/",
    "output_prefix": "out/",
    "default_prompts": '["cup"]',
    "read_buckets": '["pictures"]',
    "write_buckets": '["elsewhere"]',
}


@pytest.mark.parametrize(("name", "table"), [("variables", variables_table()), ("outputs", outputs_table())])
def test_the_tables_are_those_of_the_configuration(name: str, table: str) -> None:
    page = (DOCS / "terraform.md").read_text()
    shown = page.split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0]
    assert shown == table, "python -m tests.deploy.tables prints them"


@pytest.mark.parametrize(("name", "body"), declared("variable").items())
def test_every_variable_says_what_it_is_and_what_is_allowed(name: str, body: dict[str, Any]) -> None:
    assert text(body["description"]).endswith(".")
    assert body["type"] == "bool" or body["validation"]
    for validation in body.get("validation", []):
        assert (
            name in text(validation["error_message"]).split()[0].removesuffix(".")
            or f"{name}." in validation["error_message"]
        )


@pytest.mark.parametrize(("name", "body"), declared("output").items())
def test_every_output_says_what_it_is(name: str, body: dict[str, Any]) -> None:
    assert text(body["description"]).strip(), name


def test_every_file_is_in_the_page() -> None:
    page = (DOCS / "terraform.md").read_text()
    own = {path.name for path in CONFIGURATION.glob("*.tf")} - {"versions.tf", "variables.tf", "outputs.tf"}
    assert set(re.findall(r"`(\w+\.tf)`", page)) == own


def test_every_variable_of_the_environment_is_a_setting(deployment: Deployment) -> None:
    """And the service starts with their values."""
    deployment.apply(image=IMAGE, pull_instances='{"uploads": 1}', **EVERY_SETTING)
    for kind in ("google_cloud_run_v2_service", "google_cloud_run_v2_worker_pool"):
        (made,) = deployment.made(kind)
        environment = {each["name"]: each["value"] or "a token" for each in made["template"][0]["containers"][0]["env"]}
        assert {name for name in environment if name.lower() not in Settings.model_fields} == set()
        assert Settings.from_environment(environment).input_prefix == "in/"


def test_the_other_settings_are_not_refused_by_name() -> None:
    """What `environment` may not set is what Terraform sets, all of it settings."""
    listed = re.search(r"own_settings = concat\((.*?)\]\)", (CONFIGURATION / "settings.tf").read_text(), re.DOTALL)
    assert listed
    names = re.findall(r'"([A-Z0-9_]+)"', listed[1])
    others = {"HUGGINGFACE_HUB_TOKEN"}  # another name of a setting
    assert {name for name in names if name.lower() not in Settings.model_fields} == others
