"""GET /metrics: what Prometheus reads."""

from __future__ import annotations

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry

from service.telemetry.metrics import render


def blueprint(registry: CollectorRegistry) -> Blueprint:
    """The metrics of this process."""
    door = Blueprint("metrics", __name__)

    @door.get("/metrics")
    def metrics() -> Response:
        text, media_type = render(registry)
        return Response(text, content_type=media_type)

    return door
