"""What Google would answer: values that are decided by the cloud, in the shape of the real ones."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

NUMBER = "123456789012"

# Known before anything is made, in the real provider too.
KNOWN_EARLY = {
    ("google_service_account", "email"),
    ("google_service_account", "member"),
}

_NAMES = ("name", "account_id", "secret_id", "repository_id", "service", "bucket")


def answer(kind: str, attribute: str, type_: Any, values: Mapping[str, Any], project: str) -> object:
    """A value for a computed attribute of a resource of this kind, always the same for the same configuration."""
    if type_ != "string":
        return empty(type_)
    shaped = _shaped(kind, attribute, values, project)
    return f"{attribute.replace('_', '-')}-{_digest(kind, values)}" if shaped is None else shaped


def empty(type_: Any) -> object:
    """The empty value of a type as the schema writes it: `"bool"`, `["list", "string"]`, `["object", {…}]`."""
    if isinstance(type_, str):
        return {"bool": False, "number": 0}.get(type_, "")
    collection, of = type_
    if collection == "object":
        return {name: empty(each) for name, each in of.items()}
    return {} if collection == "map" else []


def _shaped(kind: str, attribute: str, values: Mapping[str, Any], project: str) -> str | None:
    name = next((values[key] for key in _NAMES if isinstance(values.get(key), str)), _digest(kind, values))
    account = f"{name}@{project}.iam.gserviceaccount.com"
    storage_agent = f"service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com"
    shapes = {
        ("google_project", "number"): NUMBER,
        ("google_service_account", "email"): account,
        ("google_service_account", "member"): f"serviceAccount:{account}",
        ("google_service_account", "name"): f"projects/{project}/serviceAccounts/{account}",
        ("google_storage_project_service_account", "member"): f"serviceAccount:{storage_agent}",
        ("google_cloud_run_v2_service", "uri"): f"https://{name}-{NUMBER}.{values.get('location')}.run.app",
        ("google_pubsub_topic", "id"): f"projects/{project}/topics/{name}",
        ("google_pubsub_subscription", "id"): f"projects/{project}/subscriptions/{name}",
        ("google_secret_manager_secret", "id"): f"projects/{project}/secrets/{name}",
    }
    anywhere = {"project": project, "id": f"{kind}/{name}/{_digest(kind, values)}"}
    return shapes.get((kind, attribute)) or anywhere.get(attribute)


def _digest(kind: str, values: Mapping[str, Any]) -> str:
    text = json.dumps([kind, values], sort_keys=True, default=lambda _: "unknown")
    return format(zlib.crc32(text.encode()), "08x")
