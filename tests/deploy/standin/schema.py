"""A provider's schema, as `terraform providers schema -json` prints it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.deploy.standin.protocol import MESSAGES, NESTING

GOOGLE = "registry.terraform.io/hashicorp/google"

Block = Mapping[str, Any]
Path_ = tuple[str | int, ...]
Fill = Callable[[str, Any], object]

ALLOWED = re.compile(r"Possible values: (\[.*?\])")


def load(path: Path) -> dict[str, Any]:
    """The schema of hashicorp/google in a file."""
    schemas: dict[str, Any] = json.loads(path.read_text())["provider_schemas"][GOOGLE]
    return schemas


def to_message(schema: Mapping[str, Any]) -> Any:
    """The schema of one resource, data source or the provider for GetProviderSchema."""
    return MESSAGES["Schema"](version=schema.get("version", 0), block=_block_message(schema["block"]))


def _block_message(block: Block) -> Any:
    attributes = [_attribute_message(name, each) for name, each in block.get("attributes", {}).items()]
    nested = [
        MESSAGES["NestedBlock"](
            type_name=name,
            block=_block_message(each["block"]),
            nesting=NESTING[each["nesting_mode"]],
            min_items=each.get("min_items", 0),
            max_items=each.get("max_items", 0),
        )
        for name, each in block.get("block_types", {}).items()
    ]
    return MESSAGES["Block"](attributes=attributes, block_types=nested)


def _attribute_message(name: str, attribute: Mapping[str, Any]) -> Any:
    flags = {key: attribute.get(key, False) for key in ("required", "optional", "computed", "sensitive")}
    return MESSAGES["Attribute"](name=name, type=json.dumps(attribute["type"]).encode(), **flags)


def walk(block: Block, value: Any, path: Path_ = ()) -> Iterator[tuple[Block, dict[str, Any], Path_]]:
    """A block, its value and where it is, and so for all blocks in it that there are and that are known."""
    if not isinstance(value, dict):
        return
    yield block, value, path
    for name, nested in block.get("block_types", {}).items():
        each = value.get(name)
        if isinstance(each, list):
            for index, item in enumerate(each):
                # The elements of a set have no place of their own.
                place = (name, index) if nested["nesting_mode"] == "list" else (name,)
                yield from walk(nested["block"], item, (*path, *place))
        else:
            yield from walk(nested["block"], each, (*path, name))


def problems(block: Block, value: Any) -> Iterator[tuple[str, Path_]]:
    """What the provider would say about a configuration beside what `terraform` itself finds by the schema."""
    for inner, values, path in walk(block, value):
        for name, attribute in inner.get("attributes", {}).items():
            given = values.get(name)
            if given is None:
                continue
            if attribute.get("computed") and not attribute.get("optional"):
                yield f"{name} is decided by the provider and cannot be set.", (*path, name)
            allowed = ALLOWED.search(attribute.get("description", ""))
            if allowed and isinstance(given, str) and given not in ("", *json.loads(allowed[1])):
                yield f"{given!r} is not allowed; allowed: {allowed[1]}", (*path, name)


def fill_computed(block: Block, value: Any, missing: Callable[[Any], bool], fill: Fill) -> None:
    """Set each computed attribute whose value `missing` accepts to `fill(name, type)`, in nested blocks too."""
    for inner, values, _ in walk(block, value):
        for name, attribute in inner.get("attributes", {}).items():
            if attribute.get("computed") and missing(values.get(name)):
                values[name] = fill(name, attribute["type"])
