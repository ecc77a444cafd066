"""Field masks: which parts of a topic or a subscription an update changes."""

from collections.abc import Iterable
from typing import TypeVar

from google.pubsub_v1 import types

from tools.localcloud.pubsub.errors import InvalidArgumentError

Resource = TypeVar("Resource", types.Topic, types.Subscription)

IMMUTABLE = frozenset({"name", "topic", "filter", "enable_message_ordering"})


def merged(current: Resource, change: Resource, paths: Iterable[str]) -> Resource:
    """A copy of `current` with the fields in `paths` taken from `change`; a nested path takes its whole field."""
    result = type(current)(current)
    fields = {path.partition(".")[0] for path in paths}
    if not fields:
        raise InvalidArgumentError("The update_mask must name at least one field.")
    for field in fields:
        if field in IMMUTABLE or field not in type(current).meta.fields:
            raise InvalidArgumentError(f"Invalid update_mask: {field} cannot be changed.")
        setattr(result, field, getattr(change, field) if field in change else None)
    return result
