"""Servers as processes: what they are given, how they are waited for, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import is_gone
from tools.bench import rss
from tools.process import ServiceProcess, running_service

# Not ready, in two phases, and then ready; before that it has written its environment, and started a child.
SERVER = """
import http.server, json, os, subprocess, sys
answers = [(503, b'{"phase": "loading"}'), (503, b'{"phase": "loading"}'), (503, b'{"phase": "warming"}'), (200, b"ok")]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status), self.end_headers(), self.wfile.write(body)
    def log_message(self, *_): pass
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"child": child.pid} | dict(os.environ)), flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
COMMAND = (sys.executable, "-c", SERVER)


def wait_until_gone(*pids: int) -> None:
    """A kill takes a moment."""
    until = time.monotonic() + 60
    while not all(is_gone(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_is_waited_for_and_leaves_nothing_behind(tmp_path: Path) -> None:
    phases: list[str] = []
    with running_service(
        {}, log_file=tmp_path / "log", command=COMMAND, poll_s=0.01, on_phase=phases.append
    ) as service:
        pids = service.process.pid, json.loads(service.output())["child"]
        assert not any(is_gone(pid) for pid in pids)
    assert phases == ["loading", "warming", "ready"]
    assert service.wait() == -signal.SIGTERM
    wait_until_gone(*pids)


def test_the_settings_of_the_terminal_are_not_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUEUE_SIZE", "DEFAULT_PROMPTS", "HUGGINGFACE_HUB_TOKEN", "STORAGE_EMULATOR_HOST", "PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with running_service({"QUEUE_SIZE": "7"}, log_file=tmp_path / "log", command=COMMAND, poll_s=0.01) as service:
        given = json.loads(service.output())
    assert given["QUEUE_SIZE"] == "7"
    assert given["PORT"] == str(service.port)
    assert given["OMP_WAIT_POLICY"] == "ACTIVE"
    assert given["PATH"] == os.environ["PATH"]
    assert given.keys().isdisjoint({"DEFAULT_PROMPTS", "HUGGINGFACE_HUB_TOKEN", "STORAGE_EMULATOR_HOST"})


def test_one_that_ends_early_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)")
    with (
        pytest.raises(RuntimeError, match=r"(?s)status 3\b.*no such thing"),
        running_service({}, log_file=tmp_path / "log", command=command),
    ):
        pass


def test_killed_and_started_again_it_has_the_same_address(tmp_path: Path) -> None:
    with ServiceProcess({}, tmp_path / "log", COMMAND) as service:
        service.start()
        service.wait_until_ready(poll_s=0.01)
        service.kill()
        assert service.wait() == -signal.SIGKILL
        with pytest.raises(RuntimeError, match="status -9"):
            service.check()
        service.start()
        service.wait_until_ready(poll_s=0.01)
        first, second = (json.loads(line) for line in service.output().splitlines())
    assert first["PORT"] == second["PORT"]
    assert first["child"] != second["child"]


def test_it_does_not_outlive_a_killed_starter(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from tests.processes import is_gone
from tools.bench import rss
from tools.process import running_service
with running_service({{}}, log_file=Path(sys.argv[1]), command={COMMAND!r}) as service:
    print(service.process.pid, flush=True)
    time.sleep(600)
"""
    log = tmp_path / "log"
    command = [sys.executable, "-c", program, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as starter:
        assert starter.stdout is not None
        pids = int(starter.stdout.readline()), json.loads(log.read_text())["child"]
        assert not any(is_gone(pid) for pid in pids)
        starter.kill()
    wait_until_gone(*pids)


def test_its_process_id_and_its_children_are_its_own(tmp_path: Path) -> None:
    """Also as bench counts memory: whatever holds the leash is not among them."""
    with running_service({}, log_file=tmp_path / "log", command=COMMAND, poll_s=0.01) as service:
        child = json.loads(service.output())["child"]
        assert rss.family(service.process.pid) == [service.process.pid, child]


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)status 1\b.*no-such-program: No such file"),
        running_service({}, log_file=tmp_path / "log", command=["no-such-program"]),
    ):
        pass
