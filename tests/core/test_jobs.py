from __future__ import annotations

from typing import Any

import pytest

from service.core.events import ImageArrived, Notification, Rules, SidecarArrived, classify
from service.core.jobs import JobRequest, parse_job
from service.core.options import Options
from service.core.outputs import Output, parse_output
from service.core.prompts import Limits, Prompt, PromptSet, parse_sidecar
from service.errors import BadField, BadSidecar

LIMITS = Limits(max_prompts=3, read_buckets=("photos-in", "photos-out"), write_buckets=("photos-out",))
IMAGE = "gs://photos-in/in/kitchen.jpg"


def job(**fields: Any) -> JobRequest:
    return parse_job({"image": IMAGE} | fields, LIMITS)


def test_a_whole_job() -> None:
    found = job(
        image=f"{IMAGE}#1700000000000001",
        prompts=["mug cup", {"text": "plate"}],
        options={"threshold": 0.3},
        output="gs://photos-out/orders/7.json",
        id="order-7",
        metadata={"order": 7},
    )
    assert found == JobRequest(
        bucket="photos-in",
        name="in/kitchen.jpg",
        generation=1700000000000001,
        prompt_set=PromptSet((Prompt("mug cup"), Prompt("plate")), Options(threshold=0.3), {"order": 7}),
        output=Output("photos-out", "orders/7.json"),
        id="order-7",
        metadata={"order": 7},
    )


def test_all_but_the_image_may_be_left_out_or_null() -> None:
    assert job() == JobRequest("photos-in", "in/kitchen.jpg")
    assert job(prompts=None, options=None, output=None, id=None, metadata=None) == job()


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"image": None}, "image: null is not allowed; it must be gs://bucket/object"),
        ({"image": 7}, "image: 7 is not allowed"),
        ({"image": "photos-in/a.jpg"}, "it must be gs://bucket/object"),
        ({"image": "gs://strangers/a.jpg"}, "its bucket must be one of photos-in, photos-out (READ_BUCKETS)"),
        ({"image": "gs://photos-in/in/"}, "it is a folder"),
        ({"image": IMAGE + "#0"}, "its generation must be"),
        (
            {"prompt": ["mug"]},
            "prompt: 'prompt' is not allowed; known are image, prompts, options, output, id, metadata",
        ),
        ({"folder": "gs://x/y"}, "folder: "),
        ({"prompts": "mug"}, "prompts: 'mug' is not allowed; it must be a list"),
        ({"prompts": []}, "prompts: '0 prompts' is not allowed; give 1 to 3"),
        ({"prompts": ["a"] * 4}, "prompts: '4 prompts'"),
        ({"prompts": ["x" * 10_000_000]}, "a prompt has at most 1000 characters"),
        ({"prompts": ["a"] * 2_500_000}, "prompts: '2500000 prompts' is not allowed"),
        ({"prompts": [7]}, "prompts[0]: 7 is not allowed"),
        ({"prompts": ["a"], "options": []}, "options: [] is not allowed; it must be an object"),
        ({"prompts": ["a"], "options": {"treshold": 1}}, "'treshold' is not allowed; there is no such option"),
        ({"prompts": ["a"], "options": {"threshold": "0.5"}}, "threshold: '0.5' is not allowed; it must be a number"),
        ({"options": {"threshold": 0.5}}, "give them together with prompts"),
        ({"id": 7}, "id: 7 is not allowed; it must be text"),
        ({"id": "x" * 257}, "it has at most 256 characters"),
        ({"metadata": []}, "metadata: [] is not allowed; it must be an object"),
        ({"metadata": {"x": "y" * 8192}}, "it has at most 8192 bytes of JSON"),
        ({"output": 7}, "output: 7 is not allowed; it must be gs://bucket/object.json"),
    ],
)
def test_what_a_job_may_not_say(fields: dict[str, Any], detail: str) -> None:
    with pytest.raises(BadField) as caught:
        job(**fields)
    assert detail in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"access_token": "SECRET"},
        {"prompts": [{"text": "a", "access_token": "SECRET"}]},
        {"prompts": ['{"text": "a", "access_token": "SECRET"}']},
        {"prompts": ["a"], "options": {"access_token": "SECRET"}},
    ],
)
def test_of_an_unknown_key_only_the_name_is_in_a_message(fields: dict[str, Any]) -> None:
    with pytest.raises(BadField) as caught:
        job(**fields)
    assert "access_token: 'access_token' is not allowed" in caught.value.detail
    assert "SECRET" not in caught.value.detail


def test_the_largest_id_and_metadata() -> None:
    assert job(id="x" * 256, metadata={"x": "y" * 8184}).metadata == {"x": "y" * 8184}


def test_metadata_is_measured_in_bytes_of_utf_8() -> None:
    """As it is stored: two bytes for each ü, not the six of its escape."""
    assert job(metadata={"x": "ü" * 4092}).metadata == {"x": "ü" * 4092}
    with pytest.raises(BadField, match="metadata: '8193 bytes' is not allowed; it has at most 8192 bytes of JSON"):
        job(metadata={"x": "ü" * 4092 + "y"})


REFUSED_OUTPUTS = [
    ("7.json", "it must be gs://bucket/object"),
    ("gs://photos-in/7.json", "its bucket must be one of photos-out (WRITE_BUCKETS)"),
    ("gs://photos-out/7.txt", "it must end in .json"),
    ("gs://photos-out/7.json#12", "it must end in .json"),
    ("gs://photos-out/a.prompts.json", "mean other things"),
    ("gs://photos-out/.prompts.json", "mean other things"),
    ("gs://photos-out/in/_prompts.json", "mean other things"),
    ("gs://photos-out/_prompts.json", "mean other things"),
    ("gs://photos-out/a.error.json", "mean other things"),
    ("gs://photos-out/" + "x" * 1015 + ".json", "its name has 1026 bytes"),
    ("gs://photos-out/a\nb.json", "Cloud Storage allows no such name"),
]


@pytest.mark.parametrize(("uri", "reason"), REFUSED_OUTPUTS)
def test_places_that_nobody_may_name(uri: str, reason: str) -> None:
    with pytest.raises(BadField) as caught:
        parse_output(uri, LIMITS.write_buckets)
    assert caught.value.detail.startswith("output: ")
    assert reason in caught.value.detail


def test_a_sidecar_may_name_an_output_under_the_same_rules() -> None:
    found = parse_sidecar("a.prompts.json", b'{"prompts": ["a"], "output": "gs://photos-out/x.json"}', LIMITS)
    assert found.output == Output("photos-out", "x.json")
    with pytest.raises(BadSidecar, match=r"a.prompts.json: output: 'gs://photos-in/x.json' is not allowed"):
        parse_sidecar("a.prompts.json", b'{"prompts": ["a"], "output": "gs://photos-in/x.json"}', LIMITS)


@pytest.mark.parametrize(
    "name", ["x.json", "a.jpg.json", "in/.json", "prompts.json", "_prompts.jpg.json", "A.PROMPTS.json"]
)
def test_no_output_ever_starts_work(name: str) -> None:
    """Even when it is written to an input bucket."""
    output = parse_output(f"gs://both/{name}", ("both",))
    assert output is not None
    notification = Notification("OBJECT_FINALIZE", "both", output.name, 1, "image/png", "1", None)
    meaning = classify(notification, Rules(("both",), "", "photos-out", ""))
    assert not isinstance(meaning, ImageArrived | SidecarArrived)
