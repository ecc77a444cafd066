from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.folders import FolderPage, image_job
from service.errors import BadEnvelope

PAGE = FolderPage("photos-in", "in/a #1/_prompts.json", 1700000000000001, "in/a #1/z.jpg")


def test_a_page_as_it_is_published() -> None:
    assert json.loads(PAGE.encode()) == {
        "folder": "gs://photos-in/in/a #1/_prompts.json#1700000000000001",
        "after": "in/a #1/z.jpg",
    }
    assert json.loads(image_job("photos-in", "in/ü#2.jpg", 7)) == {"image": "gs://photos-in/in/ü#2.jpg#7"}


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=200), st.integers(1, 2**62), st.text(max_size=200))
def test_pages_are_read_as_they_were_written(name: str, generation: int, after: str) -> None:
    page = FolderPage("photos-in", name, generation, after)
    assert FolderPage.parse(json.loads(page.encode())) == page


def test_a_message_without_after_is_the_first_page() -> None:
    assert FolderPage.parse({"folder": "gs://photos-in/_prompts.txt#1"}) == FolderPage("photos-in", "_prompts.txt", 1)


def test_the_folder_is_the_beginning_of_the_names_in_it() -> None:
    assert PAGE.folder == "in/a #1/"
    assert FolderPage("b", "_prompts.json", 1).folder == ""


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({}, "folder: Field required"),
        ({"folder": 5}, "folder: Input should be a valid string"),
        ({"folder": "gs://photos-in/_prompts.json"}, "folder: 'gs://photos-in/_prompts.json' is not allowed"),
        ({"folder": "gs://photos-in/_prompts.json#"}, "it must be gs://bucket/folder/_prompts.json#generation"),
        ({"folder": "gs://photos-in/_prompts.json#0"}, "it must be gs://bucket/folder/_prompts.json#generation"),
        ({"folder": "gs://photos-in/_prompts.json#" + "9" * 5000}, "it must be gs://bucket"),
        ({"folder": "s3://photos-in/_prompts.json#1"}, "it must be gs://bucket/object"),
        ({"folder": "gs://photos-in/_prompts.json#1", "after": None}, "after: Input should be a valid string"),
        ({"folder": "gs://photos-in/_prompts.json#1", "after": "x" * 1025}, "after: String should have at most 1024"),
        ({"folder": "gs://photos-in/_prompts.json#1", "before": "x"}, "before: Extra inputs are not permitted"),
    ],
)
def test_other_messages_are_refused(message: dict[str, object], reason: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        FolderPage.parse(message)
    assert reason in caught.value.detail
