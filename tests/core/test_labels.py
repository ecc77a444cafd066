from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.core.labels import LabelPlan

WIDTH, HEIGHT = 200, 120


@st.composite
def box(draw: Any) -> tuple[float, float, float, float]:
    x0, y0 = draw(st.floats(0, WIDTH - 1)), draw(st.floats(0, HEIGHT - 1))
    return x0, y0, draw(st.floats(x0, WIDTH)), draw(st.floats(y0, HEIGHT))


def pixels(box_xyxy: tuple[float, float, float, float], place: tuple[float, ...]) -> float:
    width = min(box_xyxy[2], place[2]) - max(box_xyxy[0], place[0])
    height = min(box_xyxy[3], place[3]) - max(box_xyxy[1], place[1])
    return max(0.0, width) * max(0.0, height)


@given(st.lists(st.tuples(box(), st.tuples(st.integers(5, 60), st.integers(5, 150))), max_size=12))
def test_labels_stay_in_the_picture_and_hide_no_instance(wanted: Any) -> None:
    boxes = [one for one, _ in wanted]
    plan = LabelPlan((HEIGHT, WIDTH), boxes)
    places = []
    for one, (height, width) in wanted:
        place = plan.place(one, (height, width))
        if place is None:
            continue
        x0, y0, x1, y1 = place
        assert (x1 - x0, y1 - y0) == (width, height)
        assert min(x0, y0) >= 0
        assert x1 <= WIDTH
        assert y1 <= HEIGHT
        places.append(place)
    for one in boxes:
        area = (one[2] - one[0]) * (one[3] - one[1])
        assert sum(pixels(one, place) for place in places) <= area / 2 + 1e-6


def test_above_then_inside_then_below_then_nowhere() -> None:
    assert LabelPlan((100, 100), [(10, 40, 60, 90)]).place((10, 40, 60, 90), (12, 30)) == (10, 28, 40, 40)
    assert LabelPlan((100, 100), [(10, 0, 60, 90)]).place((10, 0, 60, 90), (12, 30)) == (10, 0, 40, 12)
    assert LabelPlan((100, 100), [(10, 0, 20, 8)]).place((10, 0, 20, 8), (12, 30)) == (10, 9, 40, 21)
    assert LabelPlan((12, 30), [(0, 0, 30, 12)]).place((0, 0, 30, 12), (12, 30)) is None
