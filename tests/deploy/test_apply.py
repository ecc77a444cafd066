"""The whole life of a deployment, with a provider that makes things in memory only."""

from __future__ import annotations

from pathlib import Path

from tests.deploy.deployment import IMAGE, Deployment
from tests.deploy.standin.command import Terraform

NO_CHANGES, CHANGES = 0, 2  # exit status of `plan -detailed-exitcode`


def test_two_applies_nothing_to_change_and_nothing_left(deployment: Deployment) -> None:
    first = deployment.apply()
    assert "service_url" not in first  # there is no output without a value
    assert first["image_name"] == "us-central1-docker.pkg.dev/my-project/sam3-service/sam3-service"
    assert "google_storage_notification" in deployment.kinds()
    assert "google_cloud_run_v2_service" not in deployment.kinds()
    deployment.plan(NO_CHANGES)
    made = set(deployment.provider.made)

    second = deployment.apply(image=IMAGE)
    assert second["service_url"] == "https://sam3-service-123456789012.us-central1.run.app"
    assert made < set(deployment.provider.made)  # the second apply replaces nothing of the first
    deployment.plan(NO_CHANGES, image=IMAGE)

    deployment.apply(image=IMAGE, deletion_protection="false")
    deployment.destroy(image=IMAGE, deletion_protection="false")
    assert deployment.provider.made == {}


def test_nobody_destroys_by_mistake(deployment: Deployment) -> None:
    deployment.apply(image=IMAGE)
    told = deployment.destroy(image=IMAGE, status=1)
    assert "deletion_protection" in told
    assert "google_cloud_run_v2_service" in deployment.kinds()


def test_a_change_is_seen(deployment: Deployment) -> None:
    deployment.apply(image=IMAGE)
    assert "max_instance_count" in deployment.plan(CHANGES, image=IMAGE, max_instances="3")


def test_what_has_been_deleted_elsewhere_is_made_again(deployment: Deployment) -> None:
    deployment.apply()
    kind, name = next(key for key in deployment.provider.made if key[0] == "google_storage_notification")
    del deployment.provider.made[kind, name]
    assert "1 to add" in deployment.plan(CHANGES)


def test_a_budget_comes_later_and_replaces_nothing(deployment: Deployment) -> None:
    deployment.apply(image=IMAGE)
    made = set(deployment.provider.made)
    deployment.apply(image=IMAGE, budget='{"billing_account": "012345-6789AB-CDEF01", "monthly": 100}')
    assert made < set(deployment.provider.made)
    assert "google_billing_budget" in deployment.kinds()


def test_pull_and_back(deployment: Deployment) -> None:
    deployment.apply(image=IMAGE)
    made = set(deployment.provider.made)
    deployment.apply(image=IMAGE, pull_instances='{"uploads": 1}')
    assert "google_cloud_run_v2_worker_pool" in deployment.kinds()
    deployment.apply(image=IMAGE)
    assert set(deployment.provider.made) == made


def test_a_wrong_value_is_one_clear_error(deployment: Deployment) -> None:
    told = deployment.plan(1, image=IMAGE, accelerator="nvidia-rtx-pro-6000")
    assert "image_flavour cu126 does not run on nvidia-rtx-pro-6000" in " ".join(told.replace("│", "").split())


def test_the_stand_in_refuses_what_the_provider_refuses(deployment: Deployment, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "main.tf").write_text(
        'terraform {\n  required_providers {\n    google = { source = "hashicorp/google" }\n  }\n}\n'
        'resource "google_pubsub_topic" "a" {\n  name = "a"\n  nmae = "b"\n}\n'
        'resource "google_service_account" "a" {\n  account_id = "a"\n  email = "b"\n}\n'
        'resource "google_cloud_run_v2_service" "a" {\n  name = "a"\n  location = "b"\n  ingress = "c"\n'
        "  template {}\n}\n"
    )
    terraform = Terraform(wrong, tmp_path, deployment.terraform.attached)
    terraform.init()
    told = terraform.run("validate", "-no-color").stdout
    assert 'An argument named "nmae" is not expected here' in told
    assert "email is decided by the provider" in told
    assert "'c' is not allowed" in told
