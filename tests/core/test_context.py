from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.core.context import Context, StageNotes, Trace, current, entered, incoming_trace, label

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, Trace(TRACE, SPAN, True)),
        ({"Traceparent": f"00-{TRACE}-{SPAN}-00"}, Trace(TRACE, SPAN, False)),
        ({"traceparent": f"01-{TRACE}-{SPAN}-03-what-a-later-version-adds"}, Trace(TRACE, SPAN, True)),
        ({"X-Cloud-Trace-Context": f"{TRACE}/67667974448284343;o=1"}, Trace(TRACE, SPAN, True)),
        ({"X-Cloud-Trace-Context": f"{TRACE.upper()}/1;o=0"}, Trace(TRACE, "0000000000000001", False)),
        ({"X-Cloud-Trace-Context": f"{TRACE}/1"}, Trace(TRACE, "0000000000000001", False)),
        ({"X-Cloud-Trace-Context": TRACE}, Trace(TRACE)),
        ({"X-Cloud-Trace-Context": f"{TRACE}/0;o=1"}, Trace(TRACE, "", True)),
        ({"X-Cloud-Trace-Context": f"{TRACE}/{1 << 64}"}, Trace(TRACE)),
        (
            {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Cloud-Trace-Context": f"{'1' * 32}/1;o=0"},
            Trace(TRACE, SPAN, True),
        ),
        ({"traceparent": "nonsense", "X-Cloud-Trace-Context": TRACE}, Trace(TRACE)),
    ],
)
def test_the_trace_of_a_caller(headers: Mapping[str, str], trace: Trace) -> None:
    assert incoming_trace(headers) == trace


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",  # version 00 has four fields
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n00",
    ],
)
def test_what_is_not_well_formed_is_no_trace(traceparent: str) -> None:
    assert incoming_trace({"traceparent": traceparent}) is None


@pytest.mark.parametrize("text", ["", "x", f"{TRACE}x", f"{'0' * 32}/1", f"{TRACE}/x", f"{TRACE}/1;o=", f"{TRACE}\n"])
def test_nor_is_a_cloud_trace(text: str) -> None:
    assert incoming_trace({"X-Cloud-Trace-Context": text}) in (None, Trace(TRACE) if text == f"{TRACE}\n" else None)


def test_labels_are_those_of_what_is_being_worked_on() -> None:
    label(message_id="of nothing")
    assert current() is None
    with entered(Context(labels={"request_id": "1"})) as outer:
        label(message_id="7", delivery_attempt="")
        with entered(Context()):
            label(message_id="8")
        assert current() is outer
        assert outer.labels == {"request_id": "1", "message_id": "7"}
        with ThreadPoolExecutor(1) as other:
            assert other.submit(current).result() is None
    assert current() is None


def test_stages_add_up() -> None:
    notes = StageNotes()
    notes.stage("decode", 0.0, 1.0)
    with entered(Context()) as context:
        notes.stage("decode", 0.0, 0.25)
        notes.stage("decode", 0.0, 0.5)
        notes.stage("write", 0.0, 0.0021)
    assert context.stages_ms == {"decode": 750.0, "write": 2.1}
