from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.envelopes import Message, read_request
from service.core.letters import dead_letter, restored, set_aside

TRACE = {"googclient_traceparent": "00-ab-cd-01", "sender": "shop"}


def test_reserved_names_are_set_aside_and_restored() -> None:
    letter = dead_letter(Message(b"x", TRACE, subscription="s"), "not JSON")
    aside = {"original-googclient_traceparent": "00-ab-cd-01", "sender": "shop"}
    assert letter == Message(b"x", aside | {"reason": "not JSON", "subscription": "s"})
    assert restored(letter.attributes) == TRACE
    assert set_aside(TRACE) == aside
    assert set_aside(aside) == aside, "once is enough"
    assert restored({"original-size": "7"}) == {"original-size": "7"}


def test_a_message_may_have_attributes_that_are_called_like_a_letters_own() -> None:
    mine = {"reason": "mine", "subscription": "weekly", "original-reason": "theirs", "reasons": "many"}
    letter = dead_letter(Message(b"x", mine, subscription="s"), "not JSON")
    assert letter.attributes == {
        "reason": "not JSON",
        "subscription": "s",
        "original-reason": "mine",
        "original-subscription": "weekly",
        "original-original-reason": "theirs",
        "reasons": "many",
    }
    assert restored(letter.attributes) == mine
    assert set_aside(mine) == mine, "everybody may publish these"


NAMES = st.lists(st.sampled_from(["original-", "goog", "reason", "subscription", "x", "\n"]), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES.map("".join), st.sampled_from("12"), max_size=6), st.booleans())
def test_nothing_of_a_message_is_lost_and_all_of_it_can_be_restored(attributes: dict[str, str], known: bool) -> None:
    letter = dead_letter(Message(b"x", attributes, subscription="s" if known else ""), "not JSON")
    assert not any(name.startswith("goog") for name in letter.attributes)
    assert letter.attributes["reason"] == "not JSON"
    assert restored(letter.attributes) == attributes
    assert sorted(set_aside(attributes).values()) == sorted(attributes.values())


@pytest.mark.parametrize(
    "attributes",
    [
        {f"a{number}": "x" for number in range(101)},
        {"": "x"},
        {"k" * 257: "x"},
        {"goog" + "k" * 250: "x"},
        {"original-" * 28 + "goog": "x"},
        {"key": "ü" * 513},
    ],
    ids=["many", "nameless", "long name", "long reserved name", "often set aside", "long value"],
)
def test_what_no_pubsub_can_have_delivered_is_kept_as_a_push(attributes: dict[str, str]) -> None:
    message = Message(b"\xff\x00", attributes, "7")
    letter = dead_letter(message, "reason")
    assert letter.attributes == {"reason": "reason"}
    assert json.loads(letter.data).keys() == {"message"}
    assert read_request({}, letter.data) == message


@pytest.mark.parametrize(("size", "kept"), [(9_990_000, True), (9_999_000, False)])
def test_a_message_as_large_as_there_may_be_has_no_room_for_more(size: int, kept: bool) -> None:
    letter = dead_letter(Message(b"x" * size, {"a": "b"}), "not JSON")
    assert len(letter.data) == size
    assert letter.attributes == {"a": "b"} | ({"reason": "not JSON"} if kept else {})


def test_a_long_reason_is_cut_between_characters() -> None:
    reason = dead_letter(Message(b"x"), "x" + "ü" * 1000).attributes["reason"]
    assert reason == "x" + "ü" * 511
