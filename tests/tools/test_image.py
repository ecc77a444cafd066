"""`sam3 image check`: what it finds in an image, and that it finds fault where there is any."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import is_gone
from tools import cli
from tools.image import inside
from tools.image.command import NotAsItShouldBe, look_inside, sizes
from tools.image.runners import Engine, Here, Unpacked
from tools.image.stop import stop_in_the_middle
from tools.process import ServiceProcess, running_service

EMBEDDED = {"SAM3_MODEL": "embedded", "SAM3_DEVICE": "cpu", "TORCH_NUM_THREADS": "1", "MAX_PROMPTS": "1000"}
# A server that answers slowly, and at SIGTERM not at all: the default ends the process.
DROPS_ITS_WORK = """
import http.server, os, signal, threading, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200), self.end_headers()
    def do_POST(self): time.sleep(3), self.do_GET()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Slow).serve_forever()
"""
# One that finishes what it does, and then does not end.
NEVER_ENDS = DROPS_ITS_WORK.replace("\nclass", "\nsignal.signal(signal.SIGTERM, lambda *_: None)\nclass")
FAILS_AT_LAST = NEVER_ENDS.replace("None", "threading.Timer(4, os._exit, [7]).start()")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with running_service(EMBEDDED, log_file=tmp_path / "log") as service:
        yield service


def test_a_stop_amid_work(service: ServiceProcess) -> None:
    assert "200, then exit 0" in stop_in_the_middle(service)
    assert service.wait() == 0


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        (DROPS_ITS_WORK, "stop: no answer"),
        (NEVER_ENDS, "stop: still running 10 s after SIGTERM"),
        (FAILS_AT_LAST, "stop: exit status 7"),
    ],
)
def test_a_stop_that_is_not_as_it_should_be(program: str, fault: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", program]
    with (
        running_service({}, log_file=tmp_path / "log", command=command) as server,
        pytest.raises(RuntimeError, match=fault),
    ):
        try:
            stop_in_the_middle(server)
        finally:
            server.kill()


def test_a_place_that_is_no_image_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Here are build tools, if nothing else."""
    status = cli.main(["image", "check", "--here", "--out", str(tmp_path)])
    assert (status, capsys.readouterr().err[:9]) == (1, "confined:")


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    broken = Unpacked(tmp_path / "nowhere", "0:0", {}, (), "/")
    with pytest.raises(NotAsItShouldBe, match="nothing runs in the image"):
        look_inside(broken, "parts")


def test_inside_tells_what_there_is() -> None:
    found: dict[str, Any] = inside.confinement()
    assert found["uid"] == os.getuid()
    assert "/tmp" in found["writable"]
    assert "make" in found["build_tools"]
    assert look_inside(Here(), "confinement") == found


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 1000)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "three").write_bytes(b"x" * 10)
    assert inside.size(str(tmp_path)) == 1010
    assert inside.size(str(tmp_path / "nowhere")) == 0


def test_sizes_add_up() -> None:
    parts = {"/": 1000e6, "/opt/torch": 700e6, "/opt/model": 50e6, "/opt/venv": 150e6, "/app": 10e6}
    assert sizes({name: int(size) for name, size in parts.items()}) == (
        "in all 1000 MB, torch 700 MB, baked model 50 MB, the rest 250 MB, of that packages 150 MB, service 10 MB, "
        "system 90 MB"
    )


def test_an_engine_confines_and_hands_over_only_what_is_named() -> None:
    command = Engine("podman", "sam3").command(["PORT"], ["python", "-V"])
    assert command[:2] == ["podman", "run"]
    assert {"--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"} < set(command)
    assert [word for word in command if word.startswith("--env")] == ["--env=PORT"]
    assert command[-3:] == ["sam3", "python", "-V"]
    assert Here().command(["PORT"]) == [sys.executable, "-m", "service"]


# Runs "containers" that are no children of it, and ends before the service's.
DOCKER = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys
pids = pathlib.Path(__file__).parent
if sys.argv[1:3] == ["rm", "--force"]:
    os.kill(int((pids / sys.argv[3]).read_text()), signal.SIGKILL)
elif sys.argv[-1] == "confinement":
    print(json.dumps({{"uid": 10001, "writable": ["/tmp"], "build_tools": []}}))
elif sys.argv[-1] == "parts":
    print(json.dumps(dict.fromkeys(["/", "/opt/torch", "/opt/model", "/opt/venv", "/app"], 0)))
else:
    [name] = [word.removeprefix("--name=") for word in sys.argv if word.startswith("--name=")]
    container = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (pids / name).write_text(str(container.pid))
    sys.exit("the daemon is gone")
"""


def test_a_check_that_fails_leaves_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], eventually: Any
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert cli.main(["image", "check", "sam3", "--out", str(tmp_path / "out")]) == 1
    assert "the daemon is gone" in capsys.readouterr().err
    [container] = tmp_path.glob("sam3-image-check-*")
    eventually(lambda: is_gone(int(container.read_text())), 60)


def test_an_unpacked_image_is_run_as_its_configuration_says(tmp_path: Path) -> None:
    config = {"config": {"User": "10001:10001", "Env": ["A=b c"], "Cmd": ["python", "-m", "x"], "WorkingDir": "/app"}}
    runner = Unpacked.of(tmp_path, config)
    command = runner.command(["PORT"])
    assert command[-3:] == ["python", "-m", "x"]
    script = command[command.index("-c") + 1]
    assert f"env -i A='b c' PORT=\"$PORT\" chroot --userspec=10001:10001 {tmp_path}" in script
    assert runner.command((), ["true"])[-1] == "true"
