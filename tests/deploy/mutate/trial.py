"""One faulty configuration, and what finds the fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy import graph
from tests.deploy.mutate.mutants import Mutant
from tests.deploy.standin.command import Terraform

# Which tests look at a file: they come first, as one that fails is enough.
_LOOKED_AT_BY = {
    "apis.tf": ("events", "watching"),
    "buckets.tf": ("buckets", "events"),
    "build.tf": ("access", "buckets"),
    "budget.tf": ("watching",),
    "identities.tf": ("access", "bootstrap"),
    "monitoring.tf": ("watching",),
    "outputs.tf": ("bootstrap", "buckets", "access", "events"),
    "registry.tf": ("bootstrap", "access"),
    "secret.tf": ("bootstrap", "service"),
    "service.tf": ("service", "access"),
    "settings.tf": ("service",),
    "subscriptions.tf": ("events", "pull"),
    "topics.tf": ("events",),
    "variables.tf": ("variables", "service"),
    "worker_pool.tf": ("pull", "service"),
}

INVALID = "invalid"  # not a configuration at all: no fault that anybody could commit
SURVIVED = ""


@dataclass(frozen=True)
class Bench:
    """A copy of the configuration in which faults can be put, and `terraform` that runs there."""

    terraform: Terraform
    own: Mapping[str, str]

    def try_out(self, mutant: Mutant) -> str:
        """What finds it: the name of a test, or INVALID, or SURVIVED; the copy is whole again afterwards."""
        self._write(mutant.files(self.own))
        try:
            return self._found_by(mutant.file)
        finally:
            self._write(self.own)

    def _found_by(self, file: str) -> str:
        checked = self.terraform.run("validate", "-json")
        if not json.loads(checked.stdout)["valid"]:
            return INVALID
        drawn = self.terraform.run("graph")
        if drawn.returncode or any(graph.violations(graph.parse(drawn.stdout))):
            return "order"
        return next((test for test in self._tests(file) if self._fails(test)), SURVIVED)

    def _fails(self, test: str) -> bool:
        return self.terraform.run("test", f"-filter=tests/{test}.tftest.hcl").returncode != 0

    def _tests(self, file: str) -> list[str]:
        folder = self.terraform.configuration / "tests"
        names = {path.name.removesuffix(".tftest.hcl") for path in folder.glob("*.tftest.hcl")}
        first = _LOOKED_AT_BY.get(file, ())
        return [*first, *sorted(names - set(first))]

    def _write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = Path(self.terraform.configuration) / name
            if path.read_text() != text:
                path.write_text(text)
