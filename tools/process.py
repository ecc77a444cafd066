"""The service as an ordinary process: started, waited for, stopped; also killed and started again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3

from service.settings import Settings
from tools.localcloud.process import Process
from tools.ports import free_port

SERVICE = (sys.executable, "-m", "service")
# What the service reads beside its settings: another name of one, and where Google's clients find emulators.
_READ_TOO = ("HUGGINGFACE_HUB_TOKEN", "STORAGE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")
_ANSWER_S = 30
_GRACE_S = 20


class ServiceProcess:
    """A server behind one address, one process at a time: the service, or what `command` starts with PORT set.

    It has the variables of this process but for the service's settings, and those of `environment`. It is a Process
    of its own: Ctrl-C in a terminal reaches its starter alone, which then stops it in order, and it does not outlive
    its starter, however that ends. What it writes is added to `log_file`. Leaving the block stops what still runs.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log_file: Path,
        command: Sequence[str] = SERVICE,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**_without_settings(os.environ), **environment, "PORT": str(self.port)}
        self._log_file = log_file
        self._command = command
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The one that was started last."""
        assert self._process is not None, "not started"
        return self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._process is not None:
            self.stop()

    def start(self) -> None:
        """Start it; it may still be loading. What is left of one that was started before is stopped first."""
        if self._process is not None:
            self.stop()
        self._process = Process("the service", self._command, self._log_file, self._environment, _GRACE_S)

    def wait_until_ready(
        self,
        timeout_s: float = 900,
        *,
        poll_s: float = 0.1,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> Self:
        """Return once /ready answers 200; RuntimeError with its last output when it ends before, or takes longer.

        `on_phase` is told each phase of the start that /ready reports, and then "ready".
        """
        seen = ""
        with urllib3.PoolManager() as http:

            def ready() -> bool:
                nonlocal seen
                phase = _phase(http, self.url)
                if phase and phase != seen:
                    on_phase(phase)
                    seen = phase
                return phase == "ready"

            self.process.wait_until(ready, timeout_s, poll_s)
        return self

    def check(self) -> None:
        """RuntimeError with its last output if it has ended."""
        self.process.check()

    def terminate(self) -> None:
        """SIGTERM, as a platform sends it before it takes the instance away."""
        self.process.terminate()

    def wait(self, timeout_s: float = 60) -> int:
        """The exit status; subprocess.TimeoutExpired when it does not end."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to all of it that has not ended in time."""
        self.process.stop()

    def output(self) -> str:
        """What it has written."""
        return self._log_file.read_text(errors="replace")

    def last_output(self) -> str:
        """The last lines of that."""
        return self.process.output()


@contextmanager
def running_service(
    environment: Mapping[str, str],
    *,
    log_file: Path,
    command: Sequence[str] = SERVICE,
    poll_s: float = 0.1,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> Iterator[ServiceProcess]:
    """A ServiceProcess that is ready, until the block ends; RuntimeError when it does not become so."""
    log_file.write_bytes(b"")
    with ServiceProcess(environment, log_file, command) as service:
        service.start()
        yield service.wait_until_ready(poll_s=poll_s, on_phase=on_phase)


def _without_settings(env: Mapping[str, str]) -> dict[str, str]:
    """What is set for the terminal, not for the service that is started here: QUEUE_SIZE, a token, a bucket."""
    settings = {*(field.upper() for field in Settings.model_fields), *_READ_TOO}
    return {name: value for name, value in env.items() if name not in settings}


def _phase(http: urllib3.PoolManager, url: str) -> str:
    """The phase of the start that /ready reports; empty while nothing listens."""
    try:
        answer = http.request("GET", f"{url}/ready", retries=False, timeout=_ANSWER_S)
        return "ready" if answer.status == 200 else str(answer.json().get("phase", "starting"))
    except (urllib3.exceptions.HTTPError, ValueError):
        return ""
