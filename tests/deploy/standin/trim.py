"""`terraform providers schema -json | python -m tests.deploy.standin.trim CONFIGURATION > SCHEMA`.

Leaves of a whole schema what a configuration uses, and of descriptions the values that are allowed. The provider's own
block loses the addresses of Google's hundreds of services.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deploy.standin.schema import ALLOWED, GOOGLE

_KEPT = ("type", "required", "optional", "computed", "sensitive")


def trim(schema: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """The schemas of the provider and of the resources and data sources that the text of a configuration names."""
    google = schema["provider_schemas"][GOOGLE]
    used = {
        section: sorted(set(re.findall(rf'^{word} "(\w+)"', configuration, re.MULTILINE)))
        for section, word in (("resource_schemas", "resource"), ("data_source_schemas", "data"))
    }
    trimmed = {section: {name: _trim(google[section][name]) for name in names} for section, names in used.items()}
    provider = _trim(google["provider"])
    attributes = provider["block"]["attributes"]
    for name in [name for name in attributes if name.endswith("_custom_endpoint")]:
        del attributes[name]
    return {"provider": provider, **trimmed}


def lines(schemas: Mapping[str, Any]) -> str:
    """As JSON with a line for each resource, so that a change of one is a change of a line."""
    sections = [
        f'"{section}": {{\n'
        + ",\n".join(f'"{name}": {json.dumps(each)}' for name, each in schemas[section].items())
        + "\n}"
        for section in ("resource_schemas", "data_source_schemas")
    ]
    body = ",\n".join([f'"provider": {json.dumps(schemas["provider"])}', *sections])
    return f'{{"format_version": "1.0", "provider_schemas": {{"{GOOGLE}": {{\n{body}\n}}}}}}\n'


def _trim(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": schema.get("version", 0), "block": _trim_block(schema["block"])}


def _trim_block(block: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {name: _trim_attribute(each) for name, each in sorted(block.get("attributes", {}).items())}
    nested = {
        name: {**each, "block": _trim_block(each["block"])}
        for name, each in sorted(block.get("block_types", {}).items())
    }
    return {"attributes": attributes, "block_types": nested}


def _trim_attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: attribute[key] for key in _KEPT if attribute.get(key)}
    allowed = ALLOWED.search(attribute.get("description", ""))
    return kept | ({"description": allowed[0]} if allowed else {})


def main() -> None:
    """Standard input to standard output."""
    text = "".join(path.read_text() for path in Path(sys.argv[1]).glob("*.tf"))
    sys.stdout.write(lines(trim(json.load(sys.stdin), text)))


if __name__ == "__main__":
    main()
