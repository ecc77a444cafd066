"""The table of failures, by what the event door makes of them."""

from __future__ import annotations

from collections.abc import Iterator

from service import errors
from service.errors import ServiceError

INPUT_FAULTS = {
    "bad_field",
    "bad_sidecar",
    "not_an_image",
    "unreadable_image",
    "too_large",
    "too_long",
    "name_too_long",
    "output_taken",
    "input_gone",
    "stale_input",
}
OF_THE_SERVICE = {"queue_full", "loading", "ending", "engine_broken", "cloud_unavailable", "deadline_exceeded"}


def kinds(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds(kind)


def test_these_are_written_down_as_faults_of_the_input() -> None:
    assert {kind.code for kind in kinds() if kind.input_fault} == INPUT_FAULTS


def test_these_tell_of_the_service_and_not_of_the_image() -> None:
    assert {kind.code for kind in kinds() if kind.of_the_service} == OF_THE_SERVICE


def test_no_failure_contradicts_itself() -> None:
    for kind in kinds():
        assert not (kind.input_fault and (kind.retryable or kind.of_the_service)), kind
        assert not kind.input_fault or kind.status < 500, kind
        assert not kind.of_the_service or kind.retryable, kind
