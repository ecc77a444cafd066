"""Child processes that start healthy or not at all, and leave nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.localcloud import leash

LAST_LINES = 20
POLL_S = 0.02
GRACE_S = 5.0


class ProcessError(Exception):
    """A child process ended or stayed unhealthy; the message carries its last lines of output."""


class Process:
    """A child process in a process group of its own, its output in `log`, on a leash (see leash.py).

    In its own group, a Ctrl-C in the terminal reaches only the parent, which then stops the child in order.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Id of the process group."""
        return self._popen.pid

    @property
    def ended(self) -> bool:
        """Whether the process is no longer running."""
        return self._popen.poll() is not None

    def output(self) -> str:
        """The last lines the process has written."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:]) or "(no output)"

    def check(self) -> None:
        """Raise ProcessError if the process has ended."""
        if self.ended:
            status = self._popen.returncode
            raise ProcessError(f"{self.name} ended with status {status}. Its last output:\n{self.output()}")

    def wait_until(self, healthy: Callable[[], bool], timeout_s: float) -> None:
        """Return once `healthy()`; ProcessError if the process ends first or `timeout_s` pass."""
        until = time.monotonic() + timeout_s
        while not healthy():
            self.check()
            if time.monotonic() > until:
                raise ProcessError(
                    f"{self.name} was not ready within {timeout_s:g} s. Its last output:\n{self.output()}"
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """SIGTERM, and after a while SIGKILL to whatever is left of its group."""
        if not self.ended:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
