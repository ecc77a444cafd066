"""What the docs say of fields, limits, paths and settings is what the code has."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from service.core.documents import RequestRecord, SourceRecord, error_document, result_document, summary
from service.core.prompts import Limits, Prompt, PromptSet
from service.core.results import ImageInfo, ModelInfo, Segmentation
from service.engine.state import UNDER_WAY, Phase
from service.errors import NotAnImage, ServiceError
from service.settings import Settings
from service.web import openapi
from service.web.answers import CONTENT_TYPES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
API = (ROOT / "docs" / "api.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()
DOCUMENT = openapi.document(Limits())
REQUEST = DOCUMENT["components"]["schemas"]["SegmentRequest"]
UNITS = {"KiB": 1024, "MiB": 1024**2}


def table(head: str, page: str = API) -> list[list[str]]:
    """The cells of the table of the page whose head begins so."""
    lines = page[page.index(f"\n| {head} |") :].splitlines()[3:]
    end = next(i for i, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:end]]


FIELDS = {name.strip("`"): (meaning, default) for name, meaning, default in table("field")}


def test_every_field_is_in_the_table() -> None:
    assert sorted(FIELDS) == sorted(REQUEST["properties"])


WITHOUT_DEFAULT = {"image": "this or `image_uri`", "image_uri": "–", "prompts": "required", "nms_iou": "off"}


@pytest.mark.parametrize("name", REQUEST["properties"])
def test_its_default_is_the_documents(name: str) -> None:
    default, said = REQUEST["properties"][name].get("default"), FIELDS[name][1]
    assert (name in REQUEST["required"]) == (said == "required")
    if default is None:
        assert said == WITHOUT_DEFAULT[name]
    else:
        assert said == f"`{default}`" if isinstance(default, str) else json.loads(said) == default


def bounds(schema: dict[str, Any]) -> str:
    if "exclusiveMaximum" in schema:
        low, sign = schema.get("minimum"), "≤"
        if low is None:
            low, sign = schema["exclusiveMinimum"], "<"
        return f"{low:g} {sign} t < {schema['exclusiveMaximum']:g}"
    return f"{schema['minimum']:g} to {schema['maximum']:g}" if "maximum" in schema else ""


@pytest.mark.parametrize("name", REQUEST["properties"])
def test_its_bounds_are_the_documents(name: str) -> None:
    schema = REQUEST["properties"][name]
    numeric: dict[str, Any] = next(
        (kind for kind in schema.get("anyOf", [schema]) if kind.get("type") in ("number", "integer")), {}
    )
    assert bounds(numeric) in FIELDS[name][0]
    assert all(f"`{choice}`" in FIELDS[name][0] for choice in schema.get("enum", ()))


def test_formats_and_their_content_types() -> None:
    assert {row[0].strip("`"): row[1].strip("`") for row in table("`format` | Content-Type")} == CONTENT_TYPES


def test_every_path_is_named_and_no_other() -> None:
    described = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert set(re.findall(r"`((?:GET|POST) /\S*)`", API)) == described - {"POST /segment"}
    assert "# POST /segment" in API


def test_every_phase_is_explained_as_the_service_does() -> None:
    rows = {name.strip("`"): re.sub(r" \(\[.*\)$", "", said).replace("`", "") for name, said in table("phase")}
    assert list(rows) == list(get_args(Phase))
    assert {phase: rows[phase] for phase in UNDER_WAY} == UNDER_WAY


def faults(kind: type[ServiceError] = ServiceError) -> set[str]:
    """The codes that an input can end with."""
    return {each.code for each in kind.__subclasses__() if each.input_fault}.union(*map(faults, kind.__subclasses__()))


def test_every_code_that_an_input_can_end_with_is_explained_and_no_other() -> None:
    rows = {code.strip("`"): (when, what) for code, when, what in table("code", EVENTS)}
    assert rows.keys() == faults()
    assert all(when and what for when, what in rows.values())


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_the_messages_that_are_shown_have_the_fields_of_those_that_come(status: str) -> None:
    shown = json.loads(re.search(rf'{{"status": "{status}".*?}}\n(?=  ```)', EVENTS, re.DOTALL)[0])  # type: ignore[index]
    source, created = SourceRecord("gs://in/x.jpg", 1, "4waSgw=="), datetime.now(UTC)
    request = RequestRecord(PromptSet((Prompt("cat"),)), None)
    found = Segmentation(ImageInfo(1, 1), ModelInfo("m", "1", "cpu", "float32"), ())
    document = {
        "succeeded": result_document(found, request, source, "f" * 64, created),
        "failed": error_document(source, NotAnImage("text"), "f" * 64, created),
    }[status]
    made = summary(document, "gs://out/x.jpg.json")
    assert (shown["status"], shown.keys()) == (made["status"], made.keys())
    assert shown["input"].keys() == made["input"].keys()
    assert shown.get("error", {}).keys() == made.get("error", {}).keys()


LIMIT = re.compile(r"`([A-Z][A-Z_]+)` \(([\d.]+)(?: (KiB|MiB|s))?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_values_of_settings_are_their_defaults(page: Path) -> None:
    for name, number, unit in LIMIT.findall(page.read_text()):
        assert Settings.model_fields[name.lower()].default == int(number) * UNITS.get(unit, 1), name


def test_there_are_such_values() -> None:
    assert len(LIMIT.findall(API)) >= 6


# Variables of others, and words that look like variables.
NO_SETTINGS = {
    "HUGGINGFACE_HUB_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER", "PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST",
}  # fmt: skip


@pytest.mark.parametrize("page", ["api.md", "telemetry.md", "settings.md", "cli.md"])
def test_settings_that_are_named_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", text))
    assert {name for name in named - NO_SETTINGS if name.lower() not in Settings.model_fields} == set()


def test_links_within_the_docs_lead_somewhere() -> None:
    """Files, and headings as GitHub makes anchors of them."""
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if "://" in target or (file.exists() and (not anchor or anchor in anchors(file))):
                continue
            broken.append((page.name, target))
    assert broken == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
