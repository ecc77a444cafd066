"""What a local cloud contains and how it behaves."""

from dataclasses import dataclass
from pathlib import Path

from tools.localcloud.pubsub.names import subscription_path, topic_path


@dataclass(frozen=True)
class LocalCloudSettings:
    """Names as in a small deployment; times short enough for tests (in Google Cloud: backoff 10 s to 600 s)."""

    project: str = "local-project"
    input_buckets: tuple[str, ...] = ("sam3-input",)
    output_bucket: str = "sam3-output"
    uploads_topic: str = "sam3-uploads"
    jobs_topic: str = "sam3-jobs"
    results_topic: str = "sam3-results"
    dead_letter_topic: str = "sam3-dead-letter"

    ack_deadline_s: int = 600
    max_delivery_attempts: int = 100
    min_backoff_s: float = 0.2
    max_backoff_s: float = 5.0
    push_concurrency: int = 32
    duplicate_rate: float = 0.0
    duplicate_seed: int = 0

    storage_root: Path | None = None
    """Folder that keeps the objects; None keeps them in memory."""
    storage_port: int = 0
    """0 takes a free port, here and below."""
    pubsub_port: int = 0
    admin_port: int = 0
    pubsub_host: str = ""
    """Address and port of a Pub/Sub emulator that runs already, e.g. Google's, instead of ours; without statistics."""
    start_timeout_s: float = 60.0

    @property
    def topics(self) -> tuple[str, ...]:
        """Full names of all topics."""
        short = (self.uploads_topic, self.jobs_topic, self.results_topic, self.dead_letter_topic)
        return tuple(topic_path(self.project, name) for name in short)

    @property
    def uploads_subscription(self) -> str:
        """Full name of the push subscription to the buckets' notifications."""
        return subscription_path(self.project, f"{self.uploads_topic}-push")

    @property
    def jobs_subscription(self) -> str:
        """Full name of the push subscription to the jobs topic."""
        return subscription_path(self.project, f"{self.jobs_topic}-push")

    @property
    def results_subscription(self) -> str:
        """Full name of the pull subscription to the results topic."""
        return subscription_path(self.project, f"{self.results_topic}-pull")

    @property
    def dead_letter_subscription(self) -> str:
        """Full name of the pull subscription to the dead-letter topic."""
        return subscription_path(self.project, f"{self.dead_letter_topic}-pull")

    @property
    def push_subscriptions(self) -> tuple[str, str]:
        """Full names of the subscriptions that deliver to the service."""
        return self.uploads_subscription, self.jobs_subscription
