"""Resource names, by the rules of https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names."""

import re

from tools.localcloud.pubsub.errors import InvalidArgumentError

DELETED_TOPIC = "_deleted-topic_"

_NAME = re.compile(
    r"projects/(?P<project>[^/]+)/(?P<kind>topics|subscriptions)/(?P<id>(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254})"
)


def topic_path(project: str, topic: str) -> str:
    """The full name of a topic."""
    return f"projects/{project}/topics/{topic}"


def subscription_path(project: str, subscription: str) -> str:
    """The full name of a subscription."""
    return f"projects/{project}/subscriptions/{subscription}"


def require(name: str, kind: str) -> None:
    """Raise InvalidArgumentError unless `name` is a well-formed full name of `kind` (topics, subscriptions)."""
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] != kind:
        raise InvalidArgumentError(f"Invalid [{kind}] name: (name={name})")


def split(name: str) -> tuple[str, str]:
    """Project and short id of a full name."""
    _, project, _, short = name.split("/", 3)
    return project, short
