from __future__ import annotations

import json

import pytest

from service.core.envelopes import Message, read_request
from service.core.letters import dead_letter, restored, set_aside

TRACE = {"googclient_traceparent": "00-ab-cd-01", "sender": "shop"}


def test_reserved_names_are_set_aside_and_restored() -> None:
    letter = dead_letter(Message(b"x", TRACE, subscription="s"), "not JSON")
    aside = {"original-googclient_traceparent": "00-ab-cd-01", "sender": "shop"}
    assert letter == Message(b"x", aside | {"reason": "not JSON", "subscription": "s"})
    assert restored(aside) == TRACE
    assert set_aside(aside) == aside, "once is enough"
    assert restored({"original-size": "7"}) == {"original-size": "7"}


@pytest.mark.parametrize(
    "attributes",
    [
        {f"a{number}": "x" for number in range(101)},
        {"": "x"},
        {"k" * 257: "x"},
        {"goog" + "k" * 250: "x"},
        {"key": "ü" * 513},
    ],
    ids=["many", "nameless", "long name", "long reserved name", "long value"],
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
