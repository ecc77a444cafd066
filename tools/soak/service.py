"""The service of the soak: started, killed, stopped, started again, always behind the same address."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from service.__main__ import PROCESS
from tools.bench.cell import ROOT
from tools.bench.server import STAGED
from tools.process import free_port, stop

_START_S = 120.0
_POLL_S = 0.1


class Service:
    """One process at a time, with a scripted engine; its output goes to `log`."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._port = free_port()
        self._environment = PROCESS | os.environ | dict(environment) | {"PORT": str(self._port)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, when it does."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            stop(self._process)
            self.kill()

    def start(self) -> None:
        """Start it; it may still be loading."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *STAGED],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return once it answers; RuntimeError with its last output when it does not."""
        until = time.monotonic() + _START_S
        while not self._ready():
            if self._running.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the service is not ready (status {self._running.poll()}):\n{self.output()}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """kill -9 to all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, signal.SIGKILL)
        self._running.wait()

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self._running.terminate()
        return self._running.wait(60)

    def output(self) -> str:
        """The last lines it has written."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=30):
                return True
        except (OSError, urllib.error.HTTPError):
            return False
