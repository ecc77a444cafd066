"""The `terraform` command on a configuration, with the stand-in attached."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Terraform:
    """Runs `terraform` in `configuration`; what it keeps is in `data`, and nothing is written beside the code."""

    configuration: Path
    data: Path
    attached: Mapping[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The finished command; its standard error is in `stdout` where it was written."""
        return subprocess.run(
            ["terraform", f"-chdir={self.configuration}", *arguments],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def init(self) -> subprocess.CompletedProcess[str]:
        """What each other command but `fmt` needs to have been run before."""
        return self.run("init", "-backend=false", "-no-color")

    def _environment(self) -> dict[str, str]:
        settings = self.data / "terraform.rc"
        settings.touch()
        return {
            **os.environ,
            **self.attached,
            "TF_DATA_DIR": str(self.data),
            "TF_CLI_CONFIG_FILE": str(settings),  # no one's own settings
            "TF_INPUT": "0",
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",  # it would ask the network for newer versions
        }
