"""docs/operate.md says only what is there: commands with their options, make targets, settings, Terraform's names."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import yaml

from service import pull
from service.settings import Settings
from tests.deploy.dockerfile import ROOT, read
from tools.cli import COMMANDS

PAGE = (ROOT / "docs" / "operate.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL))
TERRAFORM = ROOT / "terraform"

# What others read, or what only the page's own shell lines have.
OTHERS = {"HF_TOKEN", "PORT", "PROJECT", "REGION", "IMAGE", "DIGEST", "SECRET", "INPUT", "OUTPUT", "MODELS"}
OTHERS |= {"NAME", "VALUE", "SIGTERM", "USD", "DIGEST"}


def lines() -> Iterator[list[str]]:
    """The words of each command in a block or between backquotes, `$…` and `$(…)` left out."""
    for language, block in BLOCKS:
        if language == "sh":
            for line in re.sub(r"\\\n", " ", block).splitlines():
                yield shlex.split(re.sub(r"\$\([^()]*\)|\$\w+", "X", line), comments=True)
    yield from (text.split() for text in INLINE)


def commands(*start: str) -> list[list[str]]:
    return [words[len(start) :] for words in lines() if words[: len(start)] == list(start)]


def parse(words: list[str]) -> argparse.Namespace:
    """As `sam3` would, without running it."""
    parser = argparse.ArgumentParser(prog="sam3")
    import_module(f"tools.{words[0]}").register(parser.add_subparsers(required=True), "")
    return parser.parse_args(words)


SAM3 = [words for words in commands("sam3") if words]
# The page also mentions some without their arguments.
WHOLE = [words for words in SAM3 if words not in (["redrive"], ["cost"], ["image", "check"])]


def test_the_page_has_commands_to_check() -> None:
    assert {words[0] for words in WHOLE} >= {"redrive", "status", "model", "image", "cost"}


def test_every_subcommand_is_there() -> None:
    assert {words[0] for words in SAM3} <= COMMANDS.keys()


@pytest.mark.parametrize("words", WHOLE, ids=" ".join)
def test_every_command_of_ours_is_accepted(words: list[str]) -> None:
    parse(words)


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(SystemExit):
        parse(["redrive", "projects/P/subscriptions/S", "--resend"])


def test_the_puller_is_started_with_options_that_it_has() -> None:
    parser = argparse.ArgumentParser()
    pull.add_options(parser)
    in_shell = [words[words.index("service.pull") + 1 :] for words in lines() if "service.pull" in words]
    (container,) = deployment()["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["python", "-m", "service.pull"]
    assert in_shell
    for words in [*in_shell, container["args"][3:]]:
        parser.parse_args(words)


def deployment() -> dict[str, Any]:
    (block,) = [block for language, block in BLOCKS if language == "yaml"]
    parsed: dict[str, Any] = yaml.safe_load(block)
    return parsed


def test_the_deployment_of_kubernetes_fits_the_image() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert (container["securityContext"]["readOnlyRootFilesystem"], mounts) == (True, ["/tmp"])
    assert pod["terminationGracePeriodSeconds"] > 10
    port = container["args"][container["args"].index("--health-port") + 1]
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe")} == {int(port)}


def test_every_target_is_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [words[0] for words in commands("make")]
    assert named
    assert set(named) <= set(targets)


def test_every_variable_is_one_of_ours() -> None:
    """In backquotes: settings, build arguments, substitutions."""
    known = {name.upper() for name in Settings.model_fields} | OTHERS
    for stage in read().stages.values():
        known |= {text.partition("=")[0] for text in stage.of("ARG")}
    found = {name for text in INLINE for name in re.findall(r"(?<![\w$/-])[A-Z][A-Z0-9_]{2,}(?![\w-])", text)}
    assert "SAM3_IMAGE_BATCH" in found
    assert found - known == set()


def test_every_file_and_place_on_the_page_is_there() -> None:
    paths = [text for text in INLINE if re.fullmatch(r"[\w./-]+\.(py|md|yaml|toml)|Dockerfile", text)]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_every_place_that_is_pointed_at_is_there() -> None:
    for page in ("docs/operate.md", "docs/model.md", "docs/cli.md", "README.md"):
        text = (ROOT / page).read_text()
        for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", text):
            file = (ROOT / page).parent / target if target else ROOT / page
            assert anchor in anchors(file.read_text()), f"{page}: {target}#{anchor}"


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([\w-]+)">', text))


def declared(kind: str) -> set[str]:
    files = sorted(TERRAFORM.glob("*.tf"))
    return {name for file in files for name in re.findall(rf'^{kind} "(\w+)"', file.read_text(), re.MULTILINE)}


@pytest.mark.skipif(not TERRAFORM.is_dir(), reason="terraform/ is not there")
def test_every_name_of_terraforms_is_declared() -> None:
    text = "\n".join(block for language, block in BLOCKS if language == "sh")
    outputs = set(re.findall(r"output -(?:raw|json) (\w+)", text + "\n".join(INLINE)))
    variables = set(re.findall(r"-var (\w+)=", text + "\n".join(INLINE))) | {"project_id", "region", "image"}
    for row in re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| [`–]", PAGE, re.MULTILINE):
        variables |= set(re.findall(r"`(\w+)`", row))
    assert {"image_name", "hf_token_secret"} <= outputs
    assert "max_instances" in variables
    assert outputs <= declared("output")
    assert variables <= declared("variable")
