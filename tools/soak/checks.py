"""What must be so when everything has come to rest; each violation is one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import Cancelled, DeadlineExceeded

from tools.localcloud.cloud import LocalCloud
from tools.soak.plan import Planned
from tools.soak.traffic import POISON

_PULL_S = 2.0


@dataclass(frozen=True)
class Message:
    """A message that was pulled."""

    data: bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Rest:
    """A cloud at rest: live generations of the inputs, documents of the outputs by name, and all messages."""

    inputs: Mapping[str, int]
    outputs: Mapping[str, Mapping[str, Any]]
    announced: Sequence[Message]
    dead_letters: Sequence[Message]

    @classmethod
    def of(cls, cloud: LocalCloud) -> Rest:
        """Read everything; a document that cannot be read is `{}`."""
        settings = cloud.settings
        inputs = {blob.name: int(blob.generation) for blob in cloud.storage.list_blobs(settings.input_buckets[0])}
        blobs = list(cloud.storage.list_blobs(settings.output_bucket))
        with ThreadPoolExecutor(8) as pool:
            documents = list(pool.map(_document, blobs))
        outputs = {blob.name: document for blob, document in zip(blobs, documents, strict=True)}
        messages = (
            pull_all(cloud, name) for name in (settings.results_subscription, settings.dead_letter_subscription)
        )
        return cls(inputs, outputs, *messages)


def _document(blob: Any) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(blob.download_as_bytes())
    except ValueError:
        return {}
    return document


def pull_all(cloud: LocalCloud, subscription: str) -> list[Message]:
    """Every message that waits, acknowledged."""
    found: list[Message] = []
    while received := _pull(cloud, subscription):
        cloud.subscriber.acknowledge(subscription=subscription, ack_ids=[each.ack_id for each in received])
        found += [Message(each.message.data, dict(each.message.attributes)) for each in received]
    return found


def _pull(cloud: LocalCloud, subscription: str) -> list[Any]:
    try:
        answer = cloud.subscriber.pull(subscription=subscription, max_messages=1000, timeout=_PULL_S, retry=None)
    except (DeadlineExceeded, Cancelled):
        return []
    return list(answer.received_messages)


def violations(rest: Rest, planned: Iterable[Planned], poison: Sequence[bytes] = POISON) -> list[str]:
    """Everything that is not as it must be."""
    found: list[str] = []
    expected: set[str] = set()
    announced = {message.attributes.get("job_id") for message in rest.announced}
    for image in planned:
        names = _outputs_of(image, rest)
        expected |= set(names)
        if len(names) != 1:
            found.append(f"{image.name}: {len(names)} results ({', '.join(names)})")
        for name in names:
            found += [f"{name}: {fault}" for fault in _faults(rest.outputs[name], image, rest)]
            if rest.outputs[name].get("job_id") not in announced:
                found.append(f"{name}: not announced")
    found += [f"{name}: nobody's" for name in sorted(set(rest.outputs) - expected)]
    return found + _dead_letter_faults(rest.dead_letters, poison)


def _outputs_of(image: Planned, rest: Rest) -> list[str]:
    """The documents of an image: results, errors, and results of jobs under a name with a part of their key."""
    plain = [f"{image.name}.json", f"{image.name}.error.json"]
    names = [name for name in plain if name in rest.outputs]
    if image.kind == "job":
        names += [name for name in rest.outputs if name.startswith(f"{image.name}.") and name not in plain]
    return names


def _faults(document: Mapping[str, Any], image: Planned, rest: Rest) -> list[str]:
    """What is wrong with a document: half, of another kind, of an older generation, of other prompts."""
    if not {"input", "request"} <= document.keys():
        return [f"half a document: {str(document)[:200]}"]
    if ("error" in document) != (image.kind == "broken"):
        return [f"not the kind of document that was to be expected: {str(document)[:200]}"]
    found = []
    live, live_prompts = rest.inputs.get(image.name), rest.inputs.get(image.prompts_name)
    if document["input"]["generation"] != live:
        found.append(f"of generation {document['input']['generation']}, live is {live}")
    source = document["request"].get("source")
    if image.kind != "job" and source["generation"] != live_prompts:
        found.append(f"of prompts {source}, live are {live_prompts}")
    labels = [prompt["text"] for prompt in document["request"]["prompts"]]
    if labels != image.labels(image.prompts_versions):
        found.append(f"of prompts {labels} instead of {image.labels(image.prompts_versions)}")
    return found


def _dead_letter_faults(dead_letters: Sequence[Message], poison: Sequence[bytes]) -> list[str]:
    found = [
        f"the dead letter {message.data[:200]!r} is healthy work: {dict(message.attributes)}"
        for message in dead_letters
        if not any(_holds(message, each) for each in poison)
    ]
    missing = [each for each in poison if not any(_holds(message, each) for message in dead_letters)]
    return found + [f"the dead letter {each!r} is missing" for each in missing]


def _holds(message: Message, poison: bytes) -> bool:
    """Whether a dead letter is the poison, whole, with a reason."""
    return message.data == poison and "reason" in message.attributes
