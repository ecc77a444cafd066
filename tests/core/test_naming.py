from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.exemplars import ExemplarBox
from service.core.jobs import job_key
from service.core.naming import (
    MAX_NAME_BYTES,
    error_name,
    gs_uri,
    is_image,
    is_sidecar,
    keyed_output_name,
    output_name,
    parse_gs_uri,
    parse_image_uri,
    sidecar_base,
    sidecar_names,
)
from service.core.options import Options
from service.core.prompts import Prompt, PromptSet
from service.errors import BadField, NameTooLong

ODD_NAMES = [
    "a b.jpg",
    "a#1.jpg",
    "a?x=1.jpg",
    "100%25.jpg",
    "Küche/Löffel.jpg",
    "☕/😀.jpg",
    "a.b.jpg",
    "x" * 900 + ".jpg",
]


@pytest.mark.parametrize(
    "name", [*ODD_NAMES, "photo.JPG", "in/photo.JpEg", "in/x.webp", "scan.TIFF", "a.heic", "a.avif"]
)
def test_known_suffixes_are_images(name: str) -> None:
    assert is_image(name)
    assert is_image(name, "application/octet-stream")


def test_an_image_content_type_makes_an_image_of_any_name() -> None:
    assert is_image("in/photo", "image/jpeg")
    assert is_image("in/photo.raw", "Image/PNG; charset=binary")


@pytest.mark.parametrize(
    "name",
    ["in/", "notes.txt", "photo", ".jpg", "in/.jpg", "photo.jpg.json", "photo.jpg.error.json", "a.jpg/b", "jpg", ""],
)
def test_other_names_are_no_images(name: str) -> None:
    assert not is_image(name)
    assert not is_image(name, "text/plain")


@pytest.mark.parametrize(
    "name", ["photo.prompts.json", "photo.jpg.prompts.txt", "photo.jpg.json", "photo.jpg.error.json", "photo.jpg.error"]
)
def test_sidecars_and_outputs_are_no_images_whatever_their_content_type(name: str) -> None:
    assert not is_image(name, "image/jpeg")


@pytest.mark.parametrize("name", ["photo.prompts.json", "in/photo.jpg.prompts.txt", "a b#.prompts.json"])
def test_sidecars(name: str) -> None:
    assert is_sidecar(name)


@pytest.mark.parametrize(
    "name", ["_prompts.json", "in/_prompts.txt", "photo_prompts.json", ".prompts.json", "in/.prompts.txt", "photo.json",
             "photo.prompts", "photo.PROMPTS.JSON", "photo.prompts.json/"]
)  # fmt: skip
def test_what_is_no_sidecar(name: str) -> None:
    assert not is_sidecar(name)


def test_sidecar_names_are_in_rank_order() -> None:
    assert sidecar_names("in/photo.jpg") == (
        "in/photo.prompts.json",
        "in/photo.jpg.prompts.json",
        "in/photo.prompts.txt",
        "in/photo.jpg.prompts.txt",
    )


@pytest.mark.parametrize(
    ("image", "first"),
    [
        ("a.b.jpg", "a.b.prompts.json"),
        ("PHOTO.JPG", "PHOTO.prompts.json"),
        ("in.jpg/photo", "in.jpg/photo.prompts.json"),
        ("v1.2", "v1.2.prompts.json"),
        ("Küche #1?.jpeg", "Küche #1?.prompts.json"),
    ],
)
def test_the_first_sidecar_name_replaces_a_known_suffix_only(image: str, first: str) -> None:
    assert sidecar_names(image)[0] == first


def test_an_image_without_suffix_has_two_sidecar_names() -> None:
    assert sidecar_names("in/photo") == ("in/photo.prompts.json", "in/photo.prompts.txt")


@pytest.mark.parametrize("image", [*ODD_NAMES, "photo", "in/photo.JPG"])
def test_every_sidecar_leads_back_to_its_image(image: str) -> None:
    for sidecar in sidecar_names(image):
        assert is_sidecar(sidecar)
        assert image.startswith(sidecar_base(sidecar))


@pytest.mark.parametrize(
    ("prefix", "name", "output"),
    [
        ("", "in/kitchen.jpg", "in/kitchen.jpg.json"),
        ("results/", "in/kitchen.jpg", "results/in/kitchen.jpg.json"),
        ("results/{bucket}/", "a b#?%.JPG", "results/photos/a b#?%.JPG.json"),
        ("{bucket}-", "{bucket}.jpg", "photos-{bucket}.jpg.json"),
        ("o/", "Küche/☕.jpg", "o/Küche/☕.jpg.json"),
    ],
)
def test_output_names(prefix: str, name: str, output: str) -> None:
    assert output_name(prefix, "photos", name) == output


def test_an_error_lies_beside_the_result() -> None:
    assert error_name("results/in/kitchen.jpg.json") == "results/in/kitchen.jpg.error.json"


def test_names_are_measured_in_bytes_and_leave_room_for_the_error() -> None:
    room = MAX_NAME_BYTES - len(".error.json")
    assert output_name("", "b", "x" * room) == "x" * room + ".json"
    with pytest.raises(NameTooLong, match="1025 bytes, at most 1024"):
        output_name("", "b", "x" * (room + 1))
    with pytest.raises(NameTooLong):
        output_name("", "b", "ü" * 507)
    with pytest.raises(NameTooLong):
        output_name("results/", "b", "x" * room)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_uris_and_names_convert_both_ways(name: str) -> None:
    assert parse_gs_uri(gs_uri("photos-in", name)) == ("photos-in", name)


@pytest.mark.parametrize(
    "uri", ["", "gs://", "gs://bucket", "gs://bucket/", "s3://bucket/a", "https://x/a", "gs:///a",
            " gs://bucket/a", "GS://bucket/a"]
)  # fmt: skip
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(BadField, match="it must be gs://bucket/object") as caught:
        parse_gs_uri(uri, field="image_uri")
    assert caught.value.field == "image_uri"


@pytest.mark.parametrize("bucket", ["My-Photos", "a b", "..", "ab", "-photos", "photos.", "x" * 223])
def test_a_bucket_that_cannot_be_called_so_is_named_as_the_fault(bucket: str) -> None:
    with pytest.raises(BadField, match="its bucket cannot be called so: a bucket's name has 3 to 222 small letters"):
        parse_gs_uri(gs_uri(bucket, "a.jpg"))


MUG = PromptSet((Prompt("mug"), Prompt("Löffel")), Options(threshold=0.4))


@pytest.mark.parametrize(
    ("uri", "meaning"),
    [
        ("gs://photos-in/a.jpg", ("photos-in", "a.jpg", None)),
        ("gs://photos-in/a.jpg#1700000000000001", ("photos-in", "a.jpg", 1700000000000001)),
        ("gs://photos-in/a#b.jpg", ("photos-in", "a#b.jpg", None)),
        ("gs://photos-in/a#7#8", ("photos-in", "a#7", 8)),
        ("gs://photos-in/#7", ("photos-in", "#7", None)),
        ("gs://photos-in/a.jpg#latest", ("photos-in", "a.jpg#latest", None)),
    ],
)
def test_an_image_may_be_pinned_to_a_generation(uri: str, meaning: object) -> None:
    assert parse_image_uri(uri, "image") == meaning


@pytest.mark.parametrize(
    "uri",
    [
        "gs://photos-in/a.jpg#0",
        f"gs://photos-in/a.jpg#{2**63}",
        "gs://photos-in/a.jpg#" + "9" * 5000,
        "gs://photos-in/" + "ü" * 513,
        "gs://photos-in/a\nb.jpg",
        "gs://photos-in/..",
        "gs://photos-in/",
        "https://photos-in/a.jpg",
    ],
)
def test_images_that_cloud_storage_could_not_have(uri: str) -> None:
    with pytest.raises(BadField, match=r"^image: .* is not allowed; ") as caught:
        parse_image_uri(uri, "image")
    assert len(caught.value.detail) < 300


def test_each_job_on_an_image_has_a_name_of_its_own() -> None:
    assert keyed_output_name("{bucket}/", "b", "in/a.jpg", "0123456789abcdef") == "b/in/a.jpg.0123456789ab.json"
    with pytest.raises(NameTooLong):
        keyed_output_name("", "b", "x" * 1001, "0123456789abcdef")


def key(
    bucket: str = "photos-in",
    name: str = "in/Küche #1.jpg",
    generation: int = 1700000000000001,
    prompt_set: PromptSet = MUG,
    model_id: str = "facebook/sam3",
    model_revision: str = "abc123",
) -> str:
    return job_key(bucket, name, generation, prompt_set, model_id, model_revision)


def test_the_job_key_of_yesterday_is_the_job_key_of_today() -> None:
    """A changed value makes every stored result look like other work: everything would be done again."""
    assert key() == "ffcf7f290093c53f3492217d86a434bb12e8658551d19423c78be116ee0ce024"


def test_everything_that_changes_the_result_changes_the_job_key() -> None:
    keys = [
        key(),
        key(bucket="photos-two"),
        key(name="in/other.jpg"),
        key(generation=1700000000000002),
        key(prompt_set=replace(MUG, prompts=MUG.prompts[:1])),
        key(prompt_set=replace(MUG, prompts=MUG.prompts[::-1])),
        key(prompt_set=replace(MUG, prompts=(Prompt("mug", (ExemplarBox((1, 2, 3, 4)),)), *MUG.prompts[1:]))),
        key(prompt_set=replace(MUG, prompts=(Prompt("mug", (ExemplarBox((1, 2, 3, 5)),)), *MUG.prompts[1:]))),
        key(prompt_set=replace(MUG, prompts=(Prompt("mug", (ExemplarBox((1, 2, 3, 4), 0),)), *MUG.prompts[1:]))),
        key(prompt_set=replace(MUG, options=Options(threshold=0.5))),
        key(prompt_set=replace(MUG, options=Options(threshold=0.4, mask_threshold=0.4))),
        key(prompt_set=replace(MUG, options=Options(threshold=0.4, max_instances=1))),
        key(model_id="embedded"),
        key(model_revision="abc124"),
    ]
    assert len(set(keys)) == len(keys)


def test_what_does_not_change_the_result_leaves_the_job_key_alone() -> None:
    shown = Options(threshold=0.4, return_masks=True, return_contours=True)
    assert key(prompt_set=PromptSet(MUG.prompts, shown, {"order": 7})) == key()


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from([None, "image/png", "text/plain"]))
def test_a_name_is_an_image_or_a_sidecar_never_both(name: str, content_type: str | None) -> None:
    assert not (is_image(name, content_type) and is_sidecar(name))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["", "r/", "{bucket}/"]))
def test_no_output_is_ever_an_image(name: str, prefix: str) -> None:
    output = output_name(prefix, "b", name)
    assert not is_image(output, "image/png")
    assert not is_image(error_name(output), "image/png")
