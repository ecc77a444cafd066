"""What the measurements compare and wait for would tell if something were wrong."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import numpy as np
import pytest

from service.engine.base import Grounding
from tests.serving import serving
from tools.bench import memory
from tools.bench.card.agreement import agreement
from tools.bench.card.variants import FP32
from tools.bench.decode import fingerprint
from tools.bench.doors import watch
from tools.bench.inputs import object_logits, photo
from tools.bench.server import Server

MIB = 2**20
SIZE_HW = (60, 80)


def found(count: int, **changed: float) -> Grounding:
    given = {"scores": 0.9, "boxes": 0.5} | changed
    return Grounding(
        np.full(count, given["scores"], np.float32),
        np.full((count, 4), given["boxes"], np.float32),
        object_logits(2, side=48)[:count],
    )


def test_pixels_in_other_places_are_other_pixels() -> None:
    rgb = photo((30, 40))
    other_order = np.asfortranarray(rgb)
    assert fingerprint(rgb, rgb) == fingerprint(other_order, other_order)
    assert fingerprint(rgb, rgb) != fingerprint(rgb, rgb[:, ::-1])
    assert fingerprint(rgb) != fingerprint(rgb.reshape(40, 30, 3))


def test_a_device_that_finds_the_same_agrees() -> None:
    same = agreement(FP32, [found(1), found(0)], [found(1), found(0)], SIZE_HW)
    assert (same.good, same.instances, same.score, same.box_px) == (True, (1, 1), 0, 0)


@pytest.mark.parametrize("changed", ["scores", "boxes"])
@pytest.mark.parametrize("place", [0, 1])
def test_nan_agrees_with_nothing(changed: str, place: int) -> None:
    answers = [found(1), found(1)]
    answers[place] = found(1, **{changed: float("nan")})
    assert not agreement(FP32, [found(1), found(1)], answers, SIZE_HW).good


def test_without_an_instance_there_is_no_agreement() -> None:
    assert not agreement(FP32, [found(0)], [found(0)], SIZE_HW).good
    assert not agreement(FP32, [found(0)], [found(1)], SIZE_HW).good
    assert not agreement(FP32, [found(1)], [found(0)], SIZE_HW).good


def test_a_server_that_does_nothing_more_is_not_waited_for() -> None:
    class Stalled(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"prompts": 3}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Stalled) as url, pytest.raises(RuntimeError, match=r"no prompt in 0\.2 s, after 3"):
        watch(Server(urlsplit(url).port or 0, 0, 0), lambda _: False, stalled_s=0.2)


def test_a_leak_is_not_hidden_by_what_the_start_gives_back() -> None:
    leaking = memory.rows_of({100: 587 * MIB, 500: 547 * MIB, 1000: 580 * MIB})
    assert [row.ours for row in leaking[:3]] == [587, 547, 580]
    assert (leaking[3].what, leaking[3].met) == ("after 1000 requests / after 500", False)
    assert memory.rows_of({100: 587 * MIB, 500: 521 * MIB, 1000: 520 * MIB})[3].met
