"""Is the process alive, and does the model answer."""

from __future__ import annotations

import json

from flask import Blueprint, Response

from service.engine.segmenter import Segmenter
from service.engine.state import State

_ENDED = ("failed", "closed")


def blueprint(segmenter: Segmenter) -> Blueprint:
    """Probes; /healthz is for local use, as Google's front end answers that path itself."""
    door = Blueprint("health", __name__)

    @door.get("/health")
    @door.get("/healthz")
    def health() -> Response:
        return _answer(segmenter.state, good=segmenter.state.phase not in _ENDED)

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
