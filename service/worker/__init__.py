"""The event door: an upload or a sidecar in, one right result and its messages out.

The trip of an event: `handler` says what it means and which images it concerns, looks around each (`surroundings`),
finds its prompts (`sources`) and gives it as a Job (`model`) to `job`; `direct` does this for the job of a message.
`job` reads the prompts, moves the work to the `destination` that they or the message name, joins it with the same work
in this process (`running`), has the image segmented, writes pictures (`renditions`) and document, and tells of it
(`outcome`). Prompts of a folder go from `handler` to `folder` instead, which publishes a job for each of its
`dependents`; what cannot be read goes to `dead_letters`.
"""

from service.worker.handler import Worker
from service.worker.outcome import Outcome

__all__ = ["Outcome", "Worker"]
