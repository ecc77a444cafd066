"""Where the model is between the start of the process and its end, and what goes on there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["starting", "importing", "downloading", "loading", "warming", "ready", "failed", "closed"]

UNDER_WAY: Mapping[Phase, str] = {
    "starting": "the HTTP server and, with INPUT_BUCKETS, Google's clients are set up",
    "importing": "torch and transformers are imported; a checkpoint that is not on this machine is fetched meanwhile",
    "downloading": "what is left of the checkpoint is fetched",
    "loading": "weights are mapped, checked for completeness and moved to the device",
    "warming": "one request, or its phrase alone, is run to make the first one fast",
    "closed": "the process is about to end",
}
"""What goes on in each phase in which the model does not answer; why it has failed is told by its error."""


@dataclass(frozen=True)
class State:
    """The phase, the error of a failed one, and phases_ms: how long each phase that is over took, in their order."""

    phase: Phase
    error: str = ""
    phases_ms: Mapping[Phase, int] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why the model does not answer, in a sentence; "" when it does."""
        return self.error or UNDER_WAY.get(self.phase, "")
