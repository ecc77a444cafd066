"""What Terraform makes before what: `terraform graph`, and what has to hold in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

Graph = Mapping[str, set[str]]

_NODE = re.compile(r'^\s+"(\S+)" \[label', re.MULTILINE)
_EDGE = re.compile(r'^\s+"(\S+)" -> "(\S+)";', re.MULTILINE)

# What is made later, what has to be there before, and what happens otherwise: no assertion of `terraform test` sees it.
NEEDS = (
    ("google_storage_notification.uploads", "google_storage_bucket.own", "there is no bucket"),
    (
        "google_storage_notification.uploads",
        "google_pubsub_topic_iam_member.storage_publishes",
        "Cloud Storage refuses a topic that its agent may not publish to",
    ),
    ("google_storage_notification.uploads", "google_pubsub_subscription.work", "what is published is lost"),
    ("google_storage_bucket_iam_member.runtime_reads", "google_storage_bucket.own", "there is no bucket"),
    ("google_storage_bucket_iam_member.runtime_writes", "google_storage_bucket.own", "there is no bucket"),
    (
        "google_cloud_run_v2_service.service",
        "google_secret_manager_secret_iam_member.runtime",
        "Cloud Run refuses a revision whose account may not read its secret",
    ),
    (
        "google_cloud_run_v2_service.service",
        "google_storage_bucket_iam_member.runtime_reads",
        "a checkpoint in the model bucket cannot be loaded",
    ),
    (
        "google_cloud_run_v2_service.service",
        "google_storage_bucket_iam_member.runtime_writes",
        "the first results cannot be written",
    ),
    (
        "google_cloud_run_v2_service.service",
        "google_pubsub_topic_iam_member.runtime_publishes",
        "the first results cannot be announced",
    ),
    (
        "google_cloud_run_v2_worker_pool.pull",
        "google_secret_manager_secret_iam_member.runtime",
        "Cloud Run refuses a revision whose account may not read its secret",
    ),
    (
        "google_cloud_run_v2_worker_pool.pull",
        "google_storage_bucket_iam_member.runtime_reads",
        "a checkpoint in the model bucket cannot be loaded",
    ),
    (
        "google_cloud_run_v2_worker_pool.pull",
        "google_storage_bucket_iam_member.runtime_writes",
        "the first results cannot be written",
    ),
    (
        "google_cloud_run_v2_worker_pool.pull",
        "google_pubsub_topic_iam_member.runtime_publishes",
        "the first results cannot be announced",
    ),
    (
        "google_cloud_run_v2_worker_pool.pull",
        "google_pubsub_subscription_iam_member.runtime_pulls",
        "a process that may not pull ends",
    ),
    (
        "google_pubsub_subscription.work",
        "google_cloud_run_v2_service_iam_member.push",
        "pushes are refused, and count as attempts",
    ),
    (
        "google_pubsub_subscription.work",
        "google_service_account_iam_member.push_tokens",
        "pushes have no token, and count as attempts",
    ),
    (
        "google_service_account_iam_member.push_tokens",
        "google_pubsub_topic.all",
        "IAM refuses a grant to an agent that does not exist yet",
    ),
    (
        "google_pubsub_topic_iam_member.dead_letters",
        "google_pubsub_topic.all",
        "IAM refuses a grant to an agent that does not exist yet",
    ),
)


def parse(dot: str) -> Graph:
    """Each resource with what it refers to directly, from what `terraform graph` prints."""
    graph: dict[str, set[str]] = defaultdict(set)
    for node in _NODE.findall(dot):
        graph[node] = set()
    for later, earlier in _EDGE.findall(dot):
        graph[later].add(earlier)
    return graph


def before(graph: Graph, resource: str) -> set[str]:
    """All that is made before a resource."""
    found: set[str] = set()
    waiting = [resource]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(new)
    return found


def violations(graph: Graph) -> Iterator[str]:
    """One line for each resource that could be made too early."""
    for later, earlier, otherwise in NEEDS:
        if earlier not in before(graph, later):
            yield f"{later} does not wait for {earlier}: {otherwise}"
    for resource in graph:
        enabled = _apis_of(resource)
        if enabled != resource and enabled not in before(graph, resource):
            yield f"{resource} does not wait for {enabled}: its API may not be enabled"


def _apis_of(resource: str) -> str:
    if resource.startswith("google_project_service."):
        return resource
    early = resource.startswith(("data.", "google_storage_"))
    return "google_project_service.lookups" if early else "google_project_service.apis"
