"""How events end, and the message that tells the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from service.core import strict_json
from service.core.documents import RequestRecord, summary
from service.core.naming import gs_uri
from service.core.observe import Observer, timed
from service.worker.model import Job, Slot

if TYPE_CHECKING:  # what is only named in annotations need not be imported by a service without events
    from service.gcp.publisher import Publisher

Status = Literal[
    "succeeded",
    "failed",
    "replayed",
    "stale",
    "ignored",
    "fanned_out",
    "waiting_for_prompts",
    "waiting_for_image",
    "dead_lettered",
]


@dataclass(frozen=True)
class Outcome:
    """How an event ended, for the log: everything here is acknowledged with 204."""

    status: Status
    subject: str
    reason: str = ""


@dataclass(frozen=True)
class Done:
    """A finished job, with what another delivery of it announces: its document and where that is, if anywhere."""

    outcome: Outcome
    document: Mapping[str, Any]
    output: Slot | None


class Announcer:
    """Tells `topic` of each document; of nothing when there is no topic."""

    def __init__(self, publisher: Publisher, topic: str | None, observer: Observer) -> None:
        self._publisher = publisher
        self._topic = topic
        self._observer = observer

    def announce(
        self,
        job: Job,
        document: Mapping[str, Any],
        output: Slot | None,
        request: RequestRecord | None,
        *,
        replayed: bool,
    ) -> None:
        """Publish the summary of a job's document, which lies at `output`; CloudUnavailable when that fails."""
        if self._topic is None:
            return
        data = summary(
            document,
            gs_uri(output.bucket, output.name) if output else None,
            ms=sum(document["timing_ms"].values()) if "timing_ms" in document else None,
            caller_id=job.caller.id,
            metadata=request.prompt_set.metadata if request else job.caller.metadata,
        )
        attributes = {
            "status": data["status"],
            "bucket": job.bucket,
            "object": job.image.name,
            "job_id": document["job_id"],
            "replayed": str(replayed).lower(),
        }
        with timed(self._observer, "announce"):
            self._publisher.publish(self._topic, strict_json.compact(data), attributes)


def replayed(job: Job) -> Outcome:
    """The job had been done before."""
    return Outcome("replayed", gs_uri(job.bucket, job.image.name))


def settled(job: Job, document: Mapping[str, Any]) -> Outcome:
    """The job has been done now."""
    fault = document.get("error", {}).get("detail", "")
    return Outcome("failed" if fault else "succeeded", gs_uri(job.bucket, job.image.name), fault)
