"""The event door: an upload or a sidecar in, one right result and its messages out."""

from service.worker.handler import Worker
from service.worker.outcome import Outcome

__all__ = ["Outcome", "Worker"]
