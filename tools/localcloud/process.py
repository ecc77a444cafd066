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

LAST_LINES = 30
POLL_S = 0.02
GRACE_S = 5.0


class ProcessError(RuntimeError):
    """A child process ended or stayed unhealthy; the message carries its last lines of output."""


class Process:
    """A child process in a process group of its own, its output added to `log`, on a leash (see leash.py).

    In its own group, a Ctrl-C in the terminal reaches only the parent, which then stops the child in order. A stop
    gives it `grace_s` to end by itself. It has the variables of `environment`, or those of this process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.name = name
        self._log = log
        self._grace_s = grace_s
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Id of the process, and of its group."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """The last lines the process has written."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:]) or "(no output)"

    def check(self) -> None:
        """Raise ProcessError if the process has ended."""
        if self.status is not None:
            raise ProcessError(f"{self.name} ended with status {self.status}. Its last output:\n{self.output()}")

    def wait_until(self, healthy: Callable[[], bool], timeout_s: float, poll_s: float = POLL_S) -> None:
        """Return once `healthy()`; ProcessError if the process ends first or `timeout_s` pass."""
        until = time.monotonic() + timeout_s
        while not healthy():
            self.check()
            if time.monotonic() > until:
                raise ProcessError(
                    f"{self.name} was not ready within {timeout_s:g} s. Its last output:\n{self.output()}"
                )
            time.sleep(poll_s)

    def terminate(self) -> None:
        """SIGTERM to the process alone."""
        self._popen.terminate()

    def wait(self, timeout_s: float) -> int:
        """The exit status; subprocess.TimeoutExpired when it does not end."""
        return self._popen.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL to the whole group at once."""
        assert self._popen.stdin is not None
        if not self._popen.stdin.closed:  # else the group is gone, and its id may be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.stdin.close()
        self._popen.wait()

    def stop(self) -> None:
        """SIGTERM, and after a while SIGKILL to whatever is left of its group."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(self._grace_s)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
