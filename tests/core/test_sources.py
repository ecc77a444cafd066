from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.events import Ignored, Notification, Rules, classify
from service.core.sources import (
    PromptSource,
    folder_prompts_names,
    names_above,
    object_source,
    ranked_places,
    recorded_source,
    source_metadata,
)

RULES = Rules(("photos-in",), "", "photos-out", "")


def folders(image: str, rules: Rules = RULES) -> list[str]:
    """The folders that are looked at, each of which has a JSON and a text file, in this order."""
    names = folder_prompts_names("photos-in", image, rules)
    assert [name.removesuffix("_prompts.json") for name in names[::2]] == [
        name.removesuffix("_prompts.txt") for name in names[1::2]
    ]
    return [name.removesuffix("_prompts.json") for name in names[::2]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a.jpg", [""]),
        ("in/a.jpg", ["in/", ""]),
        ("in/[x]*/#ü\n/a b.jpg", ["in/[x]*/#ü\n/", "in/[x]*/", "in/", ""]),
        ("/a.jpg", ["/", ""]),
        ("in//a.jpg", ["in//", "in/", ""]),
    ],
)
def test_the_nearest_folder_comes_first(image: str, expected: list[str]) -> None:
    assert folders(image) == expected


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("in/", ["in/photos/may/", "in/photos/", "in/"]),
        ("in", ["in/photos/may/", "in/photos/", "in/"]),
        ("in/pho", ["in/photos/may/", "in/photos/"]),
        ("in/photos/may/a", []),
    ],
)
def test_parents_go_up_to_the_input_prefix(prefix: str, expected: list[str]) -> None:
    assert folders("in/photos/may/a.jpg", replace(RULES, input_prefix=prefix)) == expected


def test_the_output_prefix_holds_no_sources() -> None:
    assert folders("in/a.jpg", Rules(("photos-in",), "", "photos-in", "in/_")) == [""]


@pytest.mark.parametrize(
    ("bucket", "image", "rules"),
    [
        ("strangers", "out/may/a.jpg", RULES),
        ("photos-in", "out/may/a.jpg", replace(RULES, input_prefix="in/")),
        ("photos-out", "out/may/a.jpg", RULES),
    ],
    ids=["another bucket", "outside the prefix", "among the outputs"],
)
def test_an_image_that_only_a_job_can_name_has_the_folders_of_its_bucket(bucket: str, image: str, rules: Rules) -> None:
    names = folder_prompts_names(bucket, image, rules)
    assert names[::2] == ("out/may/_prompts.json", "out/_prompts.json", "_prompts.json")
    event = Notification("OBJECT_FINALIZE", bucket, image, 1, "image/jpeg", "1", None)
    assert isinstance(classify(event, rules), Ignored), "its upload is no input for all that"
    assert isinstance(classify(replace(event, name=names[0]), rules), Ignored)


def test_names_that_cloud_storage_does_not_allow_are_left_out() -> None:
    folder = "x" * 1015 + "/"
    assert folders(f"{folder}a.jpg") == [""]


def test_the_places_of_prompts_by_rank() -> None:
    places = ranked_places("photos-in", "in/b.jpg", replace(RULES, input_prefix="in/"))
    assert [(place.kind, place.name) for place in places] == [
        ("sidecar", "in/b.prompts.json"),
        ("sidecar", "in/b.jpg.prompts.json"),
        ("sidecar", "in/b.prompts.txt"),
        ("sidecar", "in/b.jpg.prompts.txt"),
        ("metadata", "in/b.jpg"),
        ("folder", "in/_prompts.json"),
        ("folder", "in/_prompts.txt"),
    ]


def test_what_ranks_above_a_folder() -> None:
    sidecars = ("in/a/b.prompts.json", "in/a/b.jpg.prompts.json", "in/a/b.prompts.txt", "in/a/b.jpg.prompts.txt")

    def above(name: str) -> tuple[str, ...]:
        return names_above(name, "photos-in", "in/a/b.jpg", RULES)

    assert above("in/a/_prompts.json") == sidecars
    assert above("in/a/_prompts.txt") == (*sidecars, "in/a/_prompts.json")
    assert above("in/_prompts.json") == (*sidecars, "in/a/_prompts.json", "in/a/_prompts.txt")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["sidecar", "metadata", "folder"]), st.text(min_size=1), st.integers(1, 2**62))
def test_a_recorded_source_is_read_as_it_was_written(kind: str, name: str, generation: int) -> None:
    source = object_source(kind, "photos-in", name, generation)  # type: ignore[arg-type]
    metadata = source_metadata(source)
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert recorded_source(metadata | {"sam3-job-id": "x"}) == source


def test_defaults_are_recorded_as_a_kind_only() -> None:
    assert source_metadata(PromptSource("default")) == {"sam3-prompts-kind": "default"}
    assert recorded_source({"sam3-prompts-kind": "default"}) == PromptSource("default")


def test_the_longest_name_fits_into_custom_metadata() -> None:
    """8 KiB for all keys and values: https://cloud.google.com/storage/quotas#objects."""
    metadata = source_metadata(object_source("folder", "b" * 63, "😀" * 252 + "/_prompts.json", 2**62))
    assert sum(len(part) for pair in metadata.items() for part in pair) < 4096


@pytest.mark.parametrize("metadata", [{}, {"sam3-prompts-kind": "of tomorrow"}, {"sam3-prompts-uri": "gs://a/b"}])
def test_other_metadata_remembers_no_source(metadata: dict[str, str]) -> None:
    assert recorded_source(metadata) is None


def test_a_broken_record_is_no_generation_of_anything() -> None:
    metadata = source_metadata(object_source("folder", "b", "_prompts.json", 5)) | {"sam3-prompts-generation": "new"}
    assert recorded_source(metadata) == PromptSource("folder")
