"""The Pub/Sub emulator as a process."""

import json
import os
import sys
from pathlib import Path

from tools.localcloud.process import Process
from tools.localcloud.settings import LocalCloudSettings

REPOSITORY = Path(__file__).resolve().parents[2]


class PubSubProcess(Process):
    """Runs `tools.localcloud.pubsub`; `host` and `admin_url` are known once it is ready."""

    def __init__(self, settings: LocalCloudSettings, folder: Path) -> None:
        self._ready_file = folder / "pubsub.json"
        super().__init__(
            "The Pub/Sub emulator",
            _command(settings, self._ready_file),
            folder / "pubsub.log",
            {**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        self.host = ""
        self.admin_url = ""

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once the emulator serves; ProcessError if it does not within `timeout_s`."""
        self.wait_until(self._ready_file.exists, timeout_s)
        addresses = json.loads(self._ready_file.read_text())
        self.host, self.admin_url = addresses["pubsub"], addresses["admin"]


def _command(settings: LocalCloudSettings, ready_file: Path) -> list[str]:
    options = {
        "--port": settings.pubsub_port,
        "--admin-port": settings.admin_port,
        "--ready-file": ready_file,
        "--push-concurrency": settings.push_concurrency,
        "--duplicate-rate": settings.duplicate_rate,
        "--duplicate-seed": settings.duplicate_seed,
    }
    command = [sys.executable, "-m", "tools.localcloud.pubsub"]
    for name, value in options.items():
        command += [name, str(value)]
    return command
