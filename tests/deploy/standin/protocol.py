"""The messages of Terraform's plugin protocol that the stand-in needs, as protobuf classes.

Source: https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/tfplugin6.proto. Only names and numbers of
fields count on the wire, so nested messages are flat here, and maps are repeated entries.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "tfplugin6.Provider"
ERROR = 1  # Diagnostic.Severity
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}  # Schema.NestedBlock.NestingMode

_VALUE, _CONFIG, _DIAGNOSTICS = "DynamicValue", ("type_name", 1, "string"), "*Diagnostic"

# Message → its fields: name, number, type; `*` marks repeated ones.
_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "DynamicValue": (("msgpack", 1, "bytes"), ("json", 2, "bytes")),
    "RawState": (("json", 1, "bytes"),),
    "Step": (("attribute_name", 1, "string"), ("element_key_int", 3, "int64")),
    "AttributePath": (("steps", 1, "*Step"),),
    "Diagnostic": (
        ("severity", 1, "int32"),
        ("summary", 2, "string"),
        ("detail", 3, "string"),
        ("attribute", 4, "AttributePath"),
    ),
    "Attribute": (
        ("name", 1, "string"),
        ("type", 2, "bytes"),
        ("required", 4, "bool"),
        ("optional", 5, "bool"),
        ("computed", 6, "bool"),
        ("sensitive", 7, "bool"),
    ),
    "NestedBlock": (
        ("type_name", 1, "string"),
        ("block", 2, "Block"),
        ("nesting", 3, "int32"),
        ("min_items", 4, "int64"),
        ("max_items", 5, "int64"),
    ),
    "Block": (("attributes", 2, "*Attribute"), ("block_types", 3, "*NestedBlock")),
    "Schema": (("version", 1, "int64"), ("block", 2, "Block")),
    "NamedSchema": (("key", 1, "string"), ("value", 2, "Schema")),
    "Empty": (),
    "Schemas": (
        ("provider", 1, "Schema"),
        ("resource_schemas", 2, "*NamedSchema"),
        ("data_source_schemas", 3, "*NamedSchema"),
    ),
    "ProviderConfig": (("config", 1, _VALUE),),
    "ProviderChecked": (("diagnostics", 2, _DIAGNOSTICS),),
    "Configure": (("config", 2, _VALUE),),
    "TypeConfig": (_CONFIG, ("config", 2, _VALUE)),
    "Checked": (("diagnostics", 1, _DIAGNOSTICS),),
    "Upgrade": (_CONFIG, ("raw_state", 3, "RawState")),
    "State": (("value", 1, _VALUE), ("diagnostics", 2, _DIAGNOSTICS)),
    "Current": (_CONFIG, ("state", 2, _VALUE)),
    "Change": (_CONFIG, ("prior", 2, _VALUE), ("planned", 3, _VALUE)),
    "Planned": (("state", 1, _VALUE), ("diagnostics", 4, _DIAGNOSTICS), ("legacy_type_system", 5, "bool")),
    "Applied": (("state", 1, _VALUE), ("diagnostics", 3, _DIAGNOSTICS), ("legacy_type_system", 4, "bool")),
}

# Call → request and answer.
CALLS = {
    "GetProviderSchema": ("Empty", "Schemas"),
    "ValidateProviderConfig": ("ProviderConfig", "ProviderChecked"),
    "ConfigureProvider": ("Configure", "Checked"),
    "ValidateResourceConfig": ("TypeConfig", "Checked"),
    "ValidateDataResourceConfig": ("TypeConfig", "Checked"),
    "UpgradeResourceState": ("Upgrade", "State"),
    "ReadResource": ("Current", "State"),
    "PlanResourceChange": ("Change", "Planned"),
    "ApplyResourceChange": ("Change", "Applied"),
    "ReadDataSource": ("TypeConfig", "State"),
    "StopProvider": ("Empty", "Empty"),
}

_PROTO = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _PROTO.TYPE_STRING,
    "bytes": _PROTO.TYPE_BYTES,
    "bool": _PROTO.TYPE_BOOL,
    "int32": _PROTO.TYPE_INT32,
    "int64": _PROTO.TYPE_INT64,
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="standin.proto", package="standin")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"standin.{name}")) for name in _FIELDS}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    label = _PROTO.LABEL_REPEATED if kind.startswith("*") else _PROTO.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind in _SCALARS:
        message.field.add(name=name, number=number, label=label, type=_SCALARS[kind])
    else:
        message.field.add(name=name, number=number, label=label, type=_PROTO.TYPE_MESSAGE, type_name=f".standin.{kind}")


MESSAGES = _build()
