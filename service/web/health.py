"""Is the process alive, and does the model answer."""

from __future__ import annotations

import json
from dataclasses import replace

from flask import Blueprint, Response

from service.engine.segmenter import Segmenter
from service.engine.state import State

_ENDED = ("failed", "closed")

LONGEST_FORWARD_S = 600
"""Pub/Sub waits no longer for a whole event, of which a forward is a part: one that takes longer will never return."""


def blueprint(segmenter: Segmenter, longest_forward_s: float = LONGEST_FORWARD_S) -> Blueprint:
    """Probes; /healthz is for local use, as Google's front end answers that path itself.

    A forward that has been running for longer than `longest_forward_s` makes /health fail, so that what waits for ever
    is replaced.
    """
    door = Blueprint("health", __name__)

    @door.get("/health")
    @door.get("/healthz")
    def health() -> Response:
        state = segmenter.state
        if segmenter.running_s > longest_forward_s:
            hangs = f"a forward of the model has been running for longer than {longest_forward_s:g} s"
            return _answer(replace(state, error=hangs), good=False)
        return _answer(state, good=state.phase not in _ENDED)

    @door.get("/ready")
    def ready() -> Response:
        return _answer(segmenter.state, good=segmenter.state.phase == "ready")

    return door


def _answer(state: State, *, good: bool) -> Response:
    document = {
        "status": "ok" if good else "unavailable",
        "phase": state.phase,
        "reason": state.reason,
        "phases_ms": dict(state.phases_ms),
    }
    answer = Response(json.dumps(document) + "\n", 200 if good else 503, content_type="application/json")
    if not good:
        answer.headers["Retry-After"] = "5"
    return answer
