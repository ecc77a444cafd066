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
    page.locator("#run:enabled").wait_for()  # the page's policy lets no wait_for_function evaluate text
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
    assert len(shown["results"][0]["holes"]) == len(shown["results"][0]["contours"])
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
    said = page.get_by_role("alert").text_content()
    assert said == "A field is not valid: prompts: '0 prompts' is not allowed; give 1 to 64. (400 bad_field)"


PROXY = {"status": 502, "content_type": "text/html", "body": "<h1>Bad Gateway</h1>"}
BUSY = {
    "status": 429,
    "content_type": "application/problem+json",
    "headers": {"Retry-After": "2"},
    "body": json.dumps({"title": "Too many requests", "detail": "the queue is full", "code": "queue_full"}),
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (BUSY, "Too many requests: the queue is full. Try again in 2 s. (429 queue_full)"),
        (PROXY, "Something in front of the service has answered 502. <h1>Bad Gateway</h1>"),
        (None, "The service cannot be reached: is it still running?"),
    ],
)
def test_what_else_may_come_is_put_in_words(page: Any, answer: dict[str, Any] | None, said: str) -> None:
    page.route("**/segment", lambda route: route.fulfill(**answer) if answer else route.abort())
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    page.get_by_role("button", name="Segment").click()
    page.get_by_role("alert").filter(has_text=said[:20]).wait_for()
    assert said in page.get_by_role("alert").text_content()
    assert page.get_by_role("button", name="Segment").is_enabled()


# The tallest column of pixels that labels change, and the canvas, in CSS pixels.
LABELS = """() => {
  const canvas = document.getElementById("canvas"), box = document.getElementById("show-labels");
  const pixels = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.slice();
  const [labelled] = [pixels(), box.click()], plain = pixels();
  let most = 0;
  for (let x = 0; x < canvas.width; x++)
    for (let y = 0, run = 0; y < canvas.height; y++) {
      const at = 4 * (y * canvas.width + x);
      run = [0, 1, 2].some((i) => labelled[at + i] !== plain[at + i]) ? run + 1 : 0;
      most = Math.max(most, run);
    }
  return [most / devicePixelRatio, canvas.clientWidth, canvas.width];
}"""


def test_a_phone_shows_one_column_with_labels_that_can_be_read(browser: Any, service: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=3)
    page.goto(service.url)
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    page.get_by_label("Prompts").fill("frog")
    segment(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    label_px, shown_px, canvas_px = page.evaluate(LABELS)
    assert label_px >= 16
    assert canvas_px == 3 * shown_px > 900
    page.close()


def test_a_small_image_is_enlarged(page: Any, draw: Any, tmp_path: Path) -> None:
    (tmp_path / "icon.png").write_bytes(draw(40, 40))
    page.set_input_files("#image", str(tmp_path / "icon.png"))
    page.get_by_text("40 × 40").wait_for()
    assert page.locator("#canvas").bounding_box()["width"] == 320


def square(low: int, high: int) -> list[list[int]]:
    return [[low, low], [high, low], [high, high], [low, high]]


RING = {
    "image": {"width": 40, "height": 40, "exif_orientation": 1},
    "results": [
        {
            "label": "ring",
            "boxes": [[5, 5, 35, 35]],
            "scores": [0.9],
            "contours": [[square(5, 34)]],
            "holes": [[square(15, 24)]],
        }
    ],
    "timing_ms": {},
}
COLOUR_AT = """([x, y]) => {
  const canvas = document.getElementById("canvas"), at = (edge) => ((edge + 0.5) * canvas.width) / 40;
  return [...canvas.getContext("2d").getImageData(at(x), at(y), 1, 1).data];
}"""


def test_a_hole_is_not_filled(page: Any, draw: Any, tmp_path: Path) -> None:
    (tmp_path / "icon.png").write_bytes(draw(40, 40))
    page.route("**/segment", lambda route: route.fulfill(json=RING))
    page.set_input_files("#image", str(tmp_path / "icon.png"))
    page.get_by_text("40 × 40").wait_for()
    inside, around = (page.evaluate(COLOUR_AT, place) for place in ([20, 20], [10, 20]))
    segment(page)
    page.get_by_text("Answered in").wait_for()
    assert page.evaluate(COLOUR_AT, [20, 20]) == inside
    assert page.evaluate(COLOUR_AT, [10, 20]) != around


@pytest.mark.parametrize("arrives", [True, False], ids=["an answer", "no answer"])
def test_what_comes_late_is_not_shown_on_the_next_image(page: Any, draw: Any, tmp_path: Path, arrives: bool) -> None:
    (tmp_path / "icon.png").write_bytes(draw(40, 40))
    waiting: list[Any] = []
    page.route("**/segment", lambda route: waiting.append(route))  # playwright takes no bound method of a list
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    page.get_by_label("Prompts").fill("frog")
    with page.expect_request("**/segment"):
        page.get_by_role("button", name="Segment").click()
    page.set_input_files("#image", str(tmp_path / "icon.png"))
    page.get_by_text("icon.png: 40 × 40").wait_for()
    before = page.evaluate("document.getElementById('canvas').toDataURL()")
    waiting[0].continue_() if arrives else waiting[0].abort()
    page.locator("#run:enabled").wait_for()
    assert page.locator("#status").text_content() == "icon.png: 40 × 40"
    assert page.evaluate("document.getElementById('canvas').toDataURL()") == before
    assert page.locator("#json").text_content() == ""
    assert page.locator("#counts li").count() == 0
    assert page.get_by_role("alert").count() == 0


def test_an_image_that_the_browser_cannot_show_has_nothing_of_the_one_before(page: Any, tmp_path: Path) -> None:
    (tmp_path / "photo.tiff").write_bytes(b"II*\0")
    page.set_input_files("#image", str(SCENE))
    page.get_by_text("960 × 640").wait_for()
    page.get_by_label("Prompts").fill("frog")
    segment(page)
    page.set_input_files("#image", str(tmp_path / "photo.tiff"))
    page.get_by_text("photo.tiff: this browser cannot show it").wait_for()
    frame = page.locator("#canvas").bounding_box()
    assert frame["width"] / frame["height"] == pytest.approx(640 / 360, abs=0.01)
    assert page.locator("#json").text_content() == ""
    assert page.locator("#counts li").count() == 0


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
