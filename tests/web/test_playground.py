"""GET / in a real browser, against the real service."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests

SCENE = files("service").joinpath("models/demo/scene.png")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_the_page_and_all_it_loads_come_from_here_without_inline_scripts(service: Any) -> None:
    page = requests.get(f"{service.url}/", timeout=30)
    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in page.text
    for name in ("app.js", "request.js", "view.js", "playground.css"):
        assert requests.get(f"{service.url}/playground/{name}", timeout=30).ok
    assert requests.get(f"{service.url}/playground/../page.py", timeout=30).status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
    if CHROMIUM is None:
        pytest.skip("the browser test needs chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, service: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
    page.goto(service.url)
    yield page
    page.close()
    assert complaints == []


def segment(page: Any) -> Any:
    with page.expect_response("**/segment") as answered:
        page.get_by_role("button", name="Segment").click()
    page.wait_for_function("!document.getElementById('run').disabled")
    return answered.value


def test_an_image_and_prompts_and_its_curl_line(page: Any, tmp_path: Path) -> None:
    image = tmp_path / "it's a scene.png"
    image.write_bytes(SCENE.read_bytes())
    page.set_input_files("#image", str(image))
    page.get_by_text("960 × 640").wait_for()
    before = page.evaluate("document.getElementById('canvas').toDataURL()")
    page.get_by_label("Prompts").fill("frog\n@strawberry; 'red'\n")
    segment(page)
    assert "Answered in" in page.locator("#status").text_content()
    assert page.evaluate("document.getElementById('canvas').toDataURL()") != before
    shown = json.loads(page.locator("#json").text_content())
    assert [result["label"] for result in shown["results"]] == ["frog", "@strawberry; 'red'"]
    assert len(shown["results"][0]["contours"]) == len(shown["results"][0]["scores"]) > 0
    line = page.locator("#curl").text_content()
    done = subprocess.run(["bash", "-c", f"{line} -sS"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert json.loads(done.stdout)["results"] == shown["results"]


def test_a_box_drawn_with_the_mouse(page: Any) -> None:
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    page.get_by_label("draw “like this”").check()
    page.locator("#canvas").scroll_into_view_if_needed()
    frame = page.locator("#canvas").bounding_box()
    scale = frame["width"] / 960
    x0, y0, x1, y1 = (edge * scale for edge in (472, 275, 699, 521))
    page.mouse.move(frame["x"] + x0, frame["y"] + y0)
    page.mouse.down()
    page.mouse.move(frame["x"] + x1, frame["y"] + y1, steps=4)
    page.mouse.up()
    assert page.locator("#boxes li").count() == 1
    segment(page)
    shown = json.loads(page.locator("#json").text_content())
    assert [(result["label"], len(result["scores"])) for result in shown["results"]] == [("visual", 2)]


def test_errors_are_shown_plainly(page: Any) -> None:
    page.get_by_role("button", name="Segment").click()
    assert page.get_by_role("alert").text_content() == "Choose an image first."
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    segment(page)
    assert page.get_by_role("alert").text_content().startswith("400 bad_field: prompts")


def test_a_phone_shows_one_column(browser: Any, service: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(service.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_by_keyboard_alone(page: Any) -> None:
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    page.get_by_label("Prompts").focus()
    page.keyboard.type("frog")
    page.get_by_role("button", name="Add a box").focus()
    page.keyboard.press("Enter")
    assert page.get_by_label("box 1, left").input_value() == "240"
    page.get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    with page.expect_response("**/segment"):
        page.get_by_role("button", name="Segment").focus()
        page.keyboard.press("Enter")
    page.get_by_text("Answered in").wait_for()
