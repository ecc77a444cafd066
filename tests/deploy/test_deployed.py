"""`sam3 deployed`: its commands, run in a shell, work on a service with the environment that Terraform gives it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.deployment import IMAGE, Deployment
from tools.cli import main
from tools.deployed import Deployed, NotDeployed, commands
from tools.localcloud.cloud import LocalCloud
from tools.localcloud.settings import LocalCloudSettings

ROOT = Path(__file__).parents[2]
URL = "https://sam3-service-123456789012.us-central1.run.app"


def local_cloud(deployment: Deployment) -> LocalCloud:
    """Emulators that have the topics, buckets and pushes which Terraform has made."""
    topics = {
        topic["name"].removeprefix("sam3-service-"): topic["name"] for topic in deployment.made("google_pubsub_topic")
    }
    buckets = {bucket["name"].rsplit("-")[-1]: bucket["name"] for bucket in deployment.made("google_storage_bucket")}
    return LocalCloud(
        LocalCloudSettings(
            project="my-project",
            input_buckets=(buckets["input"],),
            output_bucket=buckets["output"],
            uploads_topic=topics["uploads"],
            jobs_topic=topics["jobs"],
            results_topic=topics["results"],
            dead_letter_topic=topics["dead-letters"],
        )
    )


def environment_of_the_service(deployment: Deployment) -> dict[str, str]:
    (service,) = deployment.made("google_cloud_run_v2_service")
    return {each["name"]: each["value"] for each in service["template"][0]["containers"][0]["env"]}


def pushes(deployment: Deployment) -> dict[str, Any]:
    """How Pub/Sub pushes, the same for each subscription."""
    configs = [each["push_config"][0] for each in deployment.made("google_pubsub_subscription") if each["push_config"]]
    assert len(configs) == 2
    assert configs[0] == configs[1]
    return dict(configs[0])


def test_its_commands_work(
    deployment: Deployment,
    start_service: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployment.apply(image=IMAGE, model="embedded", input_prefix="in/", output_prefix="{bucket}/")
    monkeypatch.setattr(sys, "stdin", io.StringIO(deployment.outputs()))
    assert main(["deployed"]) == 0
    script = capsys.readouterr().out
    assert f"{URL}/segment" in script
    with local_cloud(deployment) as cloud:
        emulators = {name: value for name, value in cloud.environment().items() if name.endswith("_EMULATOR_HOST")}
        service = start_service(environment_of_the_service(deployment) | emulators).wait_until_ready()
        push = pushes(deployment)
        token = push["oidc_token"][0]
        endpoint = push["push_endpoint"].replace(URL, service.url)
        cloud.push_to(endpoint, service_account=token["service_account_email"], audience=token["audience"])
        printed = run_in_a_shell(script.replace(URL, service.url), tmp_path, emulators)
    answer, result = json.JSONDecoder().raw_decode(printed)[0], json.loads(printed[printed.index('{"schema"') :])
    assert [each["label"] for each in answer["results"]] == ["strawberry"]
    assert len(answer["results"][0]["boxes"]) == len(result["results"][0]["boxes"]) == 2
    assert result["input"]["uri"] == "gs://my-project-sam3-service-input/in/scene.png"
    assert result["request"]["source"]["kind"] == "sidecar"


def run_in_a_shell(script: str, folder: Path, environment: dict[str, str]) -> str:
    """What the commands print; `gcloud` is the one of gcloud.py."""
    gcloud = folder / "gcloud"
    gcloud.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).parent / "gcloud.py"}" "$@"\n')
    gcloud.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_words_are_quoted() -> None:
    lines = commands(Deployed(URL, "gs://in/", "gs://out/"), Path("my photos/it's.jpg"), "a cup; rm -rf /")
    upload = next(line for line in lines if line.startswith("gcloud storage cp"))
    done = subprocess.run(
        ["bash", "-c", f"gcloud() {{ printf '%s\\n' \"$@\"; }}; {upload}"], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["storage", "cp", "my photos/it's.jpg", "gs://in/it's.jpg"]
    assert "'prompts=a cup; rm -rf /'" in "\n".join(lines)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ("", "these are no outputs"),
        ("[]", "these are no outputs"),
        ('{"service_url": {"value": "https://x"}}', "these are no outputs"),
        ('{"input_buckets": {"value": []}, "output_bucket": {"value": "gs://o/"}}', "these are no outputs"),
        ('{"input_buckets": {"value": ["gs://i/"]}, "output_bucket": {"value": "gs://o/"}}', "apply with an image"),
    ],
)
def test_what_is_missing_is_said(outputs: str, told: str) -> None:
    with pytest.raises(NotDeployed, match=told):
        Deployed.read(io.StringIO(outputs))


def test_no_service_is_a_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    assert main(["deployed"]) == 1
    assert "terraform output -json" in capsys.readouterr().err.replace("-chdir=terraform ", "")
