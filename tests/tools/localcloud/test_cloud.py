"""The local cloud as a whole: start, stop, and what happens when a part of it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tools.localcloud.cloud import LocalCloud
from tools.localcloud.process import Process, ProcessError
from tools.localcloud.settings import LocalCloudSettings
from tools.ports import free_port

DEADLINE_S = 30.0


def running(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Any) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def groups(cloud: LocalCloud) -> list[int]:
    return [process.pid for process in cloud.processes]


def kill(process: Process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    wait_for(lambda: process.status is not None)


def test_the_environment_names_everything_a_service_needs(cloud: LocalCloud) -> None:
    assert cloud.environment() == {
        "STORAGE_EMULATOR_HOST": cloud.storage_url,
        "PUBSUB_EMULATOR_HOST": cloud.pubsub_host,
        "GOOGLE_CLOUD_PROJECT": "local-project",
        "INPUT_BUCKETS": "in-a,in-b",
        "OUTPUT_BUCKET": "out",
        "JOBS_TOPIC": "projects/local-project/topics/sam3-jobs",
        "RESULTS_TOPIC": "projects/local-project/topics/sam3-results",
        "DEAD_LETTER_TOPIC": "projects/local-project/topics/sam3-dead-letter",
    }


def test_subscriptions_are_set_up_like_the_deployed_ones(cloud: LocalCloud) -> None:
    for name in cloud.settings.push_subscriptions:
        subscription = cloud.subscriber.get_subscription(subscription=name)
        assert subscription.ack_deadline_seconds == 600
        assert subscription.dead_letter_policy.max_delivery_attempts == 100
        assert subscription.dead_letter_policy.dead_letter_topic == cloud.environment()["DEAD_LETTER_TOPIC"]
        assert subscription.retry_policy.minimum_backoff.total_seconds() == 0.2


def test_this_process_keeps_its_environment(cloud: LocalCloud) -> None:
    assert not {"STORAGE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"} & os.environ.keys()


def test_jobs_are_pushed_too(cloud: LocalCloud, sink: Any) -> None:
    cloud.push_to(sink.url, service_account="push@local.iam.gserviceaccount.com")
    cloud.publisher.publish(cloud.environment()["JOBS_TOPIC"], b"{}").result(30)
    [push] = sink.wait_for(1)
    cloud.push_to("")
    assert push.envelope["subscription"] == cloud.settings.jobs_subscription
    assert push.headers["authorization"].startswith("Bearer ")


def test_leaving_stops_everything() -> None:
    with LocalCloud() as cloud:
        started = groups(cloud)
        assert all(running(group) for group in started)
    wait_for(lambda: not any(running(group) for group in started))


def test_waiting_until_quiet(cloud: LocalCloud, sink: Any) -> None:
    received = sum(cloud.statistics()[name].received for name in cloud.settings.push_subscriptions)
    sink.answer = lambda number: 503 if number < 3 else 204
    cloud.push_to(sink.url)
    cloud.storage.bucket("in-a").blob("quiet").upload_from_string(b"x")
    cloud.wait_until_quiet(DEADLINE_S, received=received + 1)
    cloud.push_to("")
    assert len(sink.pushes) == 3


def test_waiting_for_a_message_that_never_comes_ends_with_the_statistics(cloud: LocalCloud) -> None:
    with pytest.raises(TimeoutError, match="sam3-uploads-push"):
        cloud.wait_until_quiet(0.1, received=1_000_000)


def test_a_dead_emulator_is_named_with_its_output() -> None:
    with pytest.raises(ProcessError, match="fake-gcs-server ended with status"), LocalCloud() as cloud:
        kill(cloud.processes[1])
        cloud.statistics()


def test_a_dead_emulator_is_noted_on_the_error_it_caused() -> None:
    with pytest.raises(ZeroDivisionError) as raised, LocalCloud() as cloud:
        kill(cloud.processes[0])
        raise ZeroDivisionError
    assert "The Pub/Sub emulator ended" in raised.value.__notes__[0]


def test_a_taken_port_stops_the_start_with_the_reason() -> None:
    with LocalCloud() as cloud:
        port = int(cloud.storage_url.rpartition(":")[2])
        second = LocalCloud(LocalCloudSettings(storage_port=port))
        with pytest.raises(ProcessError, match=rf"port {port} .*: Address already in use"), second:
            pass


def test_objects_in_a_folder_outlive_the_cloud(tmp_path: Path) -> None:
    settings = LocalCloudSettings(storage_root=tmp_path / "objects")
    with LocalCloud(settings) as cloud:
        cloud.storage.bucket("sam3-input").blob("kept").upload_from_string(b"x")
    with LocalCloud(settings) as cloud:
        assert cloud.storage.bucket("sam3-input").blob("kept").download_as_bytes() == b"x"


def test_a_share_of_messages_comes_twice(sink: Any) -> None:
    with LocalCloud(LocalCloudSettings(duplicate_rate=0.5)) as cloud:
        cloud.push_to(sink.url)
        topic = cloud.environment()["JOBS_TOPIC"]
        for future in [cloud.publisher.publish(topic, b"%d" % number) for number in range(40)]:
            future.result(30)
        cloud.wait_until_quiet(DEADLINE_S, received=40)
        stats = cloud.statistics()[cloud.settings.jobs_subscription]
    assert stats.received == 40
    assert 5 < stats.duplicated < 35
    assert stats.acked == stats.delivered == len(sink.pushes) == 40 + stats.duplicated


def test_a_process_that_never_gets_ready_says_what_it_printed(tmp_path: Path) -> None:
    program = "import time; print('still loading', flush=True); time.sleep(600)"
    with Process("The loader", [sys.executable, "-c", program], tmp_path / "log") as process:
        wait_for(lambda: "loading" in process.output())
        with pytest.raises(ProcessError, match=r"not ready within 0\.1 s.*\n.*still loading"):
            process.wait_until(lambda: False, 0.1)


DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with Process("The deaf one", [sys.executable, "-c", DEAF], tmp_path / "log", grace_s=0.2) as process:
        wait_for(lambda: "deaf" in process.output())
    assert process.status == -signal.SIGKILL
    wait_for(lambda: not running(process.pid))


def test_a_process_that_ignores_sigterm_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from tools.localcloud.process import Process
with Process("The deaf one", [sys.executable, "-c", {DEAF!r}], Path(sys.argv[1]), grace_s=0.2) as process:
    process.wait_until(lambda: "deaf" in process.output(), {DEADLINE_S})
    print(process.pid, flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: not running(group))


def command_line(*arguments: str) -> subprocess.Popen[str]:
    program = "import sys; from tools.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "local", "up", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_exports_and_stops_on_a_signal(number: signal.Signals) -> None:
    with command_line() as command:
        assert command.stdout is not None
        first = command.stdout.readline()
        command.send_signal(number)
        rest = command.stdout.read()
    assert first.startswith("export STORAGE_EMULATOR_HOST=http://127.0.0.1:")
    assert "export PUBSUB_EMULATOR_HOST=127.0.0.1:" in rest
    assert command.returncode == 0


def test_the_command_prints_json_and_writes_it(tmp_path: Path) -> None:
    port, port_file = free_port(), tmp_path / "ports.json"
    with command_line("--json", "--port-file", str(port_file), "--storage-port", str(port)) as command:
        wait_for(port_file.exists)
        command.terminate()
        assert command.stdout is not None
        printed = json.load(command.stdout)
    assert printed == json.loads(port_file.read_text())
    assert printed["STORAGE_EMULATOR_HOST"] == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--duplicate-rate", "2"], 2, "'2' is not allowed; allowed: a number from 0 to 1"),
        (["--duplicate-rate", "nan"], 2, "'nan' is not allowed; allowed: a number from 0 to 1"),
        (
            [word for letter in "abcd" for word in ("--input-bucket", letter * 60)],
            1,
            "the local cloud cannot be set up: 400 ",
        ),
        (["--port-file", "/no/such/folder/ports.json"], 1, "the local cloud cannot be set up: "),
    ],
)
def test_what_cannot_be_set_up_is_said(
    arguments: list[str], status: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with command_line(*arguments) as command:
        assert command.wait(DEADLINE_S * 4) == status
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said
    # gRPC's own log may add lines of the emulator's end.
    assert status == 2 or sum(line.startswith("the local cloud") for line in said.splitlines()) == 1


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    port_file = tmp_path / "ports.json"
    with command_line("--port-file", str(port_file)) as command:
        wait_for(port_file.exists)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(command.pid)], capture_output=True, text=True, check=True
        )
        command.kill()
    groups = [int(pid) for pid in children.stdout.split()]
    assert len(groups) == 2
    wait_for(lambda: not any(running(group) for group in groups))
