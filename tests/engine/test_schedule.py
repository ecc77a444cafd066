"""Who is served next, with literal works and no threads."""

from __future__ import annotations

import numpy as np

from service.engine.base import Grounding, Phrase
from service.engine.schedule import Asked, Encode, Ground, Schedule
from service.engine.work import Task, Work

NOTHING = Grounding(np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 2, 2), np.float32))


def work(prompts: int = 1, *, urgent: bool = True, max_total: int | None = None) -> Work:
    phrases = tuple(Phrase(str(n)) for n in range(prompts))
    return Work(Task(np.zeros((1, 1, 3), np.uint8), phrases, 0.5, 10, max_total), urgent)


def event(prompts: int = 1) -> Work:
    return work(prompts, urgent=False)


def serve(schedule: Schedule) -> Encode | Ground | None:
    """Do the next step as a model would that finds nothing."""
    step = schedule.next()
    if isinstance(step, Encode):
        for each in step.works:
            each.image = "encoded"
    if isinstance(step, Ground):
        for asked in step.asked:
            asked.work.found[asked.index] = NOTHING
        for each in step.works:
            if not each.pending:
                schedule.remove(each)
    return step


def filled(*works: Work, images: int = 2, prompts: int = 4) -> Schedule:
    schedule = Schedule(images, prompts)
    for each in works:
        schedule.add(each)
    return schedule


def steps(schedule: Schedule) -> list[tuple[str, list[Work]]]:
    done = []
    while step := serve(schedule):
        done.append((type(step).__name__, list(step.works)))
    return done


def test_an_empty_schedule_has_no_step() -> None:
    assert filled().next() is None


def test_images_share_a_forward_and_so_do_their_prompts() -> None:
    a, b = work(2), work(1)
    assert steps(filled(a, b)) == [("Encode", [a, b]), ("Ground", [a, b])]


def test_prompts_are_grounded_in_bounded_chunks_in_order() -> None:
    schedule = filled(work(5), prompts=2)
    serve(schedule)
    chunks = [serve(schedule) for _ in range(3)]
    assert [[asked.index for asked in chunk.asked] for chunk in chunks if isinstance(chunk, Ground)] == [
        [0, 1],
        [2, 3],
        [4],
    ]


def test_another_image_is_encoded_only_when_prompts_run_short() -> None:
    a, b = work(8), work(8)
    order = steps(filled(a, b, images=1))
    assert order == [
        ("Encode", [a]),
        ("Ground", [a]),
        ("Ground", [a]),
        ("Encode", [b]),
        ("Ground", [b]),
        ("Ground", [b]),
    ]


def test_a_person_goes_ahead_of_a_long_event_at_the_next_forward() -> None:
    bulk, person = event(64), work()
    schedule = filled(bulk)
    serve(schedule), serve(schedule)
    schedule.add(person)
    first, second = serve(schedule), serve(schedule)
    assert first == Encode((person,))
    assert isinstance(second, Ground)
    assert second.asked[0].work is person
    assert {asked.work for asked in second.asked[1:]} == {bulk}  # the event fills the rest of the forward


def test_a_persons_image_does_not_wait_for_those_of_events() -> None:
    person, bulk = work(), event()
    assert filled(bulk, person).next() == Encode((person,))


def test_a_person_is_grounded_before_the_image_of_an_event_is_encoded() -> None:
    person, bulk = work(), event()
    assert steps(filled(person, bulk, images=1)) == [
        ("Encode", [person]),
        ("Ground", [person]),
        ("Encode", [bulk]),
        ("Ground", [bulk]),
    ]


def test_a_backlog_of_events_costs_a_person_no_forward() -> None:
    person, backlog = work(), [event() for _ in range(12)]
    schedule = filled(*backlog, person, images=4, prompts=8)
    assert steps(schedule)[:3] == [("Encode", [person]), ("Ground", [person]), ("Encode", backlog[:4])]


def test_events_alone_still_fill_their_forwards() -> None:
    events = [event() for _ in range(8)]
    assert steps(filled(*events, images=4, prompts=8)) == [
        ("Encode", events[:4]),
        ("Encode", events[4:]),
        ("Ground", events),
    ]


def test_an_encoded_event_that_is_due_does_not_wait_for_a_persons_image() -> None:
    bulk = event()
    schedule = filled(bulk)
    serve(schedule)
    for _ in range(2):
        schedule.add(work(4))  # as many as fill a forward, so that the event has no part in it
        serve(schedule), serve(schedule)
    schedule.add(work())
    due = serve(schedule)
    assert isinstance(due, Ground)
    assert due.works == (bulk,)


def test_people_cannot_starve_an_event() -> None:
    bulk = event()
    schedule = filled(bulk, images=1, prompts=1)
    served = 0
    while bulk.pending:
        schedule.add(work())
        serve(schedule)
        served += 1
        assert served < 20


def test_events_cannot_starve_a_person_either() -> None:
    """However many events are due, only one of them comes before people at a time."""
    schedule = filled(*(event(4) for _ in range(50)), images=1, prompts=4)
    person = work()
    served = 0
    for _ in range(10):
        serve(schedule)
    schedule.add(person)
    while person.pending:
        serve(schedule)
        served += 1
    assert served <= 4


def test_encoded_images_are_bounded_whatever_waits() -> None:
    works = [work(100) for _ in range(20)]
    schedule = filled(*works, images=2, prompts=1000)
    most = 0
    while serve(schedule):
        most = max(most, sum(each.encoded and bool(each.pending) for each in works))
    assert 1 < most <= 4


def test_with_the_memory_full_what_has_begun_and_what_is_bounded_goes_on() -> None:
    begun, bounded, other = event(5), work(1, max_total=9), event(1)
    schedule = filled(begun, other)
    assert serve(schedule) == Encode((begun, other))
    assert serve(schedule) == Ground(tuple(Asked(begun, index) for index in range(4)))
    schedule.add(bounded)
    bounded.image = "encoded"
    step = schedule.next(full=True)
    assert isinstance(step, Ground)
    assert step.works == (bounded, begun)
    schedule.remove(begun)
    schedule.remove(bounded)
    assert schedule.next(full=True) is None
    assert schedule.next() == Ground((Asked(other, 0),))


def test_what_nobody_wants_costs_nothing() -> None:
    given_up, wanted = work(), work()
    schedule = filled(given_up, wanted, images=1)
    given_up.give_up = True
    assert schedule.drop(lambda each: each.give_up) == [given_up]
    assert steps(schedule) == [("Encode", [wanted]), ("Ground", [wanted])]


def test_the_answer_is_in_the_order_of_the_phrases_and_accounts_for_its_time() -> None:
    one = work(2)
    one.encode_s, one.ground_s = 0.5, 0.25
    first, second = (Grounding(np.array([s], np.float32), NOTHING.boxes, NOTHING.mask_logits) for s in (0.9, 0.8))
    one.found = {1: second, 0: first}
    answer = one.answer(one.submitted + 1)
    assert answer.groundings == (first, second)
    assert (answer.queue_ms, answer.encode_image_ms, answer.ground_ms) == (250, 500, 250)
