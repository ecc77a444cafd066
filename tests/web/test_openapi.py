"""The OpenAPI document: the committed copy, the routes, and what it says of fields and failures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from service.app import create_app
from service.core.fields import NAMES
from service.core.prompts import Limits
from service.settings import Settings
from service.web import openapi
from service.web.schemas import MEANINGS
from tools.cli import main
from tools.openapi import text

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = openapi.document(Limits())


@pytest.fixture
def app() -> Flask:
    return create_app(Settings.from_environment({"MAX_PROMPTS": "5"}), None, None)  # type: ignore[arg-type]


def test_the_committed_copy_is_current() -> None:
    assert (ROOT / "docs/openapi.json").read_text() == text(), "run make openapi"


def test_every_route_is_described(app: Flask) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.endswith(".static")]
    routes = {(rule.rule, method.lower()) for rule in rules for method in rule.methods or ()}
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert {route for route in routes if route[1] not in ("head", "options")} == described


def test_every_field_is_described() -> None:
    assert tuple(MEANINGS) and set(MEANINGS) == set(NAMES)
    for schema in ("SegmentRequest", "SegmentForm"):
        assert set(DOCUMENT["components"]["schemas"][schema]["properties"]) == set(NAMES)


def test_every_reference_leads_somewhere() -> None:
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT))
    assert set(names) == set(DOCUMENT["components"]["schemas"])


def test_every_field_and_code_is_in_the_docs() -> None:
    page = (ROOT / "docs/api.md").read_text()
    codes = {failure.code for failure in (*openapi.SEGMENT_FAILURES, *openapi.EVENT_FAILURES)}
    assert [name for name in (*NAMES, *codes) if f"`{name}`" not in page] == []


def test_the_document_has_the_limits_of_the_deployment(app: Flask) -> None:
    answer = app.test_client().get("/openapi.json")
    assert answer.content_type == "application/json"
    assert answer.get_json()["components"]["schemas"]["SegmentRequest"]["properties"]["prompts"]["maxItems"] == 5


class Links(HTMLParser):
    """Every link and id, and what would be fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        given = dict(attributes)
        if "href" in given:
            self.targets.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])
        if tag in ("script", "link", "img", "iframe") or "src" in given:
            self.fetched.append(tag)


def test_the_page_shows_everything_and_fetches_nothing(service: Any) -> None:
    answer = requests.get(f"{service.url}/docs", timeout=30)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(answer.text)
    assert links.fetched == []
    assert len(links.ids) == len(set(links.ids))
    assert [target for target in links.targets if target.startswith("#") and target[1:] not in links.ids] == []
    for word in (*DOCUMENT["paths"], *DOCUMENT["components"]["schemas"], *NAMES, "too_large", "Retry-After"):
        assert word in answer.text, word


def test_the_service_serves_the_committed_copy(service: Any) -> None:
    assert requests.get(f"{service.url}/openapi.json", timeout=30).text == text()


def test_it_is_written_or_one_line_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi", "--out", str(tmp_path / "a.json")]) == 0
    assert (tmp_path / "a.json").read_text() == text()
    assert main(["openapi", "--out", str(tmp_path / "no" / "a.json")]) == 1
    assert capsys.readouterr().err == f"--out: '{tmp_path}/no/a.json' cannot be written: No such file or directory\n"
