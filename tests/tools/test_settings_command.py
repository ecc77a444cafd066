"""`sam3 settings`: what the service would read, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from service.settings import Settings
from tools.cli import main
from tools.settings import rows

Print = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Print:
    def settings(*options: str, **environment: str) -> tuple[int, str, str]:
        for field in Settings.model_fields:
            monkeypatch.delenv(field.upper(), raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = main(["settings", *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return settings


def test_every_setting_has_a_row(settings: Print) -> None:
    status, out, _ = settings()
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [field.upper() for field in Settings.model_fields]
    assert all(line.endswith("default") for line in out.splitlines())


def test_what_is_set_comes_from_its_variable(settings: Print) -> None:
    _, out, _ = settings(
        "--set", PORT="9000", INPUT_BUCKETS="in-one, in-two", OUTPUT_BUCKET="out-b", OUTPUT_PREFIX="{bucket}/"
    )
    assert [line.split() for line in out.splitlines()] == [
        ["PORT", "9000", "PORT"],
        ["INPUT_BUCKETS", "in-one,in-two", "INPUT_BUCKETS"],
        ["OUTPUT_BUCKET", "out-b", "OUTPUT_BUCKET"],
        ["OUTPUT_PREFIX", "{bucket}/", "OUTPUT_PREFIX"],
    ]


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN"])
@pytest.mark.parametrize("options", [(), ("--set",), ("--json",), ("--set", "--json")])
def test_secrets_are_masked(settings: Print, name: str, options: tuple[str, ...]) -> None:
    status, out, err = settings(*options, **{name: "hf_secret"})
    assert status == 0
    assert "hf_secret" not in out + err
    assert name in out
    assert "********" in out


def test_json(settings: Print) -> None:
    _, out, _ = settings("--json", SAM3_COMPILE="true")
    document = json.loads(out)
    assert document["SAM3_COMPILE"] == {"name": "SAM3_COMPILE", "value": True, "source": "SAM3_COMPILE"}
    assert document["INPUT_BUCKETS"] == {"name": "INPUT_BUCKETS", "value": [], "source": "default"}


def test_a_bad_value_is_the_line_that_stops_the_start(settings: Print) -> None:
    assert settings(PORT="http", HF_TOKEN="hf_secret") == (
        1,
        "",
        "PORT: 'http' is not allowed; allowed: a whole number from 1 to 65535\n",
    )


def test_an_unset_secret_is_no_secret() -> None:
    assert {row.name: row.value for row in rows({})}["HF_TOKEN"] is None
