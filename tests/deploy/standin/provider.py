"""The calls of the plugin protocol, answered from the schema and from memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.deploy.standin.answers import KNOWN_EARLY, answer
from tests.deploy.standin.protocol import ERROR, MESSAGES
from tests.deploy.standin.schema import Block, Path_, fill_computed, problems, to_message
from tests.deploy.standin.values import UNKNOWN, decode, encode, is_unknown


class Provider:
    """hashicorp/google without Google: what is applied is remembered in `made` until it is destroyed.

    One instance serves all configurations of the provider (its aliases), and the last project that one of them names is
    that of all.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.made: dict[tuple[str, str], dict[str, Any]] = {}
        self._project = "project"
        self._provider = schema["provider"]
        self._resources = schema["resource_schemas"]
        self._data_sources = schema["data_source_schemas"]

    def GetProviderSchema(self, _: Any) -> Any:  # noqa: N802 (these are the protocol's names)
        """All schemas."""
        return MESSAGES["Schemas"](
            provider=to_message(self._provider),
            resource_schemas=_named(self._resources),
            data_source_schemas=_named(self._data_sources),
        )

    def ValidateProviderConfig(self, request: Any) -> Any:  # noqa: N802
        """What is wrong with a `provider` block."""
        return MESSAGES["ProviderChecked"](diagnostics=_check(self._provider["block"], request.config))

    def ConfigureProvider(self, request: Any) -> Any:  # noqa: N802
        """Remember the project."""
        self._project = decode(request.config).get("project") or self._project
        return MESSAGES["Checked"]()

    def ValidateResourceConfig(self, request: Any) -> Any:  # noqa: N802
        """What is wrong with a `resource` block."""
        return MESSAGES["Checked"](diagnostics=_check(self._resource(request), request.config))

    def ValidateDataResourceConfig(self, request: Any) -> Any:  # noqa: N802
        """What is wrong with a `data` block."""
        block = self._data_sources[request.type_name]["block"]
        return MESSAGES["Checked"](diagnostics=_check(block, request.config))

    def UpgradeResourceState(self, request: Any) -> Any:  # noqa: N802
        """The state as it is: there is only one version."""
        return MESSAGES["State"](value=encode(json.loads(request.raw_state.json)))

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        """What there is now; null when it is not there."""
        key = request.type_name, decode(request.state)["id"]
        return MESSAGES["State"](value=encode(self.made.get(key)))

    def PlanResourceChange(self, request: Any) -> Any:  # noqa: N802
        """The proposed state; what the cloud decides is unknown until something is made."""
        prior, planned = decode(request.prior), decode(request.planned)
        if prior is None and planned is not None:
            fill_computed(
                self._resource(request),
                planned,
                lambda value: value is None,
                lambda name, type_: self._planned(request.type_name, name, type_, planned),
            )
        return MESSAGES["Planned"](state=encode(planned), legacy_type_system=True)

    def ApplyResourceChange(self, request: Any) -> Any:  # noqa: N802
        """Make, change or destroy it."""
        prior, planned = decode(request.prior), decode(request.planned)
        if planned is None and prior.get("deletion_protection"):
            detail = "Set deletion_protection to false and apply that before this is destroyed."
            return MESSAGES["Applied"](state=request.prior, diagnostics=[_diagnostic(detail, ())])
        if prior is not None:
            del self.made[request.type_name, prior["id"]]
        if planned is not None:
            fill_computed(
                self._resource(request),
                planned,
                is_unknown,
                lambda name, type_: answer(request.type_name, name, type_, planned, self._project),
            )
            self.made[request.type_name, planned["id"]] = planned
        return MESSAGES["Applied"](state=encode(planned), legacy_type_system=True)

    def ReadDataSource(self, request: Any) -> Any:  # noqa: N802
        """What Google would answer."""
        value = decode(request.config)
        fill_computed(
            self._data_sources[request.type_name]["block"],
            value,
            lambda each: each is None,
            lambda name, type_: answer(request.type_name, name, type_, value, self._project),
        )
        return MESSAGES["State"](value=encode(value))

    def StopProvider(self, _: Any) -> Any:  # noqa: N802
        """Nothing takes long enough to be stopped."""
        return MESSAGES["Empty"]()

    def _resource(self, request: Any) -> Block:
        block: Block = self._resources[request.type_name]["block"]
        return block

    def _planned(self, kind: str, name: str, type_: Any, values: Mapping[str, Any]) -> object:
        early = name == "project" or (kind, name) in KNOWN_EARLY
        return answer(kind, name, type_, values, self._project) if early else UNKNOWN


def _named(schemas: Mapping[str, Any]) -> list[Any]:
    return [MESSAGES["NamedSchema"](key=name, value=to_message(schema)) for name, schema in schemas.items()]


def _check(block: Block, config: Any) -> list[Any]:
    return [_diagnostic(detail, path) for detail, path in problems(block, decode(config))]


def _diagnostic(detail: str, path: Path_) -> Any:
    steps = [{"attribute_name": step} if isinstance(step, str) else {"element_key_int": step} for step in path]
    return MESSAGES["Diagnostic"](severity=ERROR, summary="Invalid value", detail=detail, attribute={"steps": steps})
