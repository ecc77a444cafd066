"""cloudbuild.yaml by Cloud Build's schema, and its substitutions: declared, used, documented."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import ROOT, read

FILE = ROOT / "cloudbuild.yaml"
TEXT = FILE.read_text()
BUILD: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: dict[str, dict[str, Any]] = {step["id"]: step for step in BUILD["steps"]}
# https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
GIVEN = {"PROJECT_ID", "BUILD_ID"}


def problems(path: Path) -> str:
    """What the schema of schemastore.org, which check-jsonschema carries, says against a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.cloudbuild", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode else ""


def test_the_schema_accepts_it() -> None:
    assert problems(FILE) == ""


def _misspell(build: dict[str, Any]) -> None:
    build["steps"][0]["argv"] = build["steps"][0].pop("args")


def _count_seconds(build: dict[str, Any]) -> None:
    build["timeout"] = 5400


def _invent(build: dict[str, Any]) -> None:
    build["options"]["machine"] = build["options"].pop("machineType")


@pytest.mark.parametrize("break_it", [_misspell, _count_seconds, _invent])
def test_the_schema_refuses_mistakes(break_it: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    build = yaml.safe_load(TEXT)
    break_it(build)
    broken = tmp_path / "cloudbuild.yaml"
    broken.write_text(yaml.safe_dump(build))
    assert problems(broken) != ""


def test_every_substitution_is_declared_and_each_declared_one_used() -> None:
    """Cloud Build refuses the first, and, unless told otherwise, the second."""
    body = yaml.safe_dump({name: part for name, part in BUILD.items() if name != "substitutions"})
    used = set(re.findall(r"(?<!\$)\$\{?([A-Z_][A-Z0-9_]*)", body))
    assert used - GIVEN == BUILD["substitutions"].keys()
    inner = set(re.findall(r"\$\{?([A-Z_][A-Z0-9_]*)", " ".join(BUILD["substitutions"].values())))
    assert inner <= GIVEN
    assert BUILD["options"]["dynamicSubstitutions"] is True


def test_every_substitution_is_documented() -> None:
    rows = re.findall(r"^\| (`_.*?) \| (.*?) \|", (ROOT / "docs/operate.md").read_text(), re.MULTILINE)
    documented = [name for row, _ in rows for name in re.findall(r"`(_[A-Z0-9_]+)`", row)]
    assert sorted(documented) == sorted(BUILD["substitutions"])


def test_no_bare_dollar_is_left_for_the_shell() -> None:
    for step in STEPS.values():
        for argument in step["args"]:
            assert re.findall(r"(?<!\$)\$(?![${A-Z_])", argument) == [], step["id"]


def test_the_token_is_a_secret_from_its_store_to_the_build() -> None:
    (secret,) = BUILD["availableSecrets"]["secretManager"]
    assert secret["versionName"].endswith("/secrets/${_HF_TOKEN_SECRET}/versions/${_HF_TOKEN_SECRET_VERSION}")
    for name, step in STEPS.items():
        given = "--secret=id=hf_token,env=HF_TOKEN" in step["args"]
        assert step.get("secretEnv") == ([secret["env"]] if given else None), name
    assert "HF_TOKEN" not in " ".join(
        argument for step in STEPS.values() for argument in step["args"] if "arg=" in argument
    )


def test_what_is_pushed_is_what_was_tested() -> None:
    own = (
        "--build-arg=REVISION",
        "--target",
        "--tag",
        "--load",
        "--push",
        "--cache",
        "--provenance",
        "--metadata-file",
    )

    def arguments(step: str) -> list[str]:
        return [argument for argument in STEPS[step]["args"] if not argument.startswith(own)]

    assert arguments("build") == arguments("push")
    assert list(STEPS) == ["builder", "build", "test", "push", "deploy"]
    assert {"--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"} <= set(STEPS["test"]["args"])


def test_build_arguments_are_the_images_own() -> None:
    image = read()
    declared = {text.partition("=")[0] for stage in image.stages.values() for text in stage.of("ARG")}
    given = re.findall(r"--build-arg=(\w+)=\$\{(\w+)\}", "\n".join(STEPS["push"]["args"]))
    assert {name for name, _ in given} <= declared
    for name in ("TORCH_INDEX_URL", "TORCH_VERSION"):
        assert BUILD["substitutions"][f"_{name}"] == image.arguments[name]


def test_it_opens_the_service_to_nobody_and_deploys_by_digest_only_when_asked() -> None:
    (_, script) = STEPS["deploy"]["args"]
    assert BUILD["substitutions"]["_SERVICE"] == ""
    assert not re.search(r"allow-unauthenticated|allUsers|add-iam-policy-binding|invoker", TEXT)
    assert '--image="${_IMAGE}@$$digest"' in script
    assert "run services update" in script  # `deploy` would make a service of that name, with settings of its own
