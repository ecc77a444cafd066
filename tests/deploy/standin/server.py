"""The stand-in as a plugin that `terraform` attaches to instead of downloading the provider."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.deploy.standin.protocol import CALLS, MESSAGES, SERVICE
from tests.deploy.standin.provider import Provider
from tests.deploy.standin.schema import GOOGLE

log = logging.getLogger(__name__)


@contextmanager
def serving(provider: Provider) -> Iterator[dict[str, str]]:
    """Serve on a Unix socket; yields the environment that makes `terraform` use it for hashicorp/google.

    https://developer.hashicorp.com/terraform/internals/debugging#running-terraform-with-a-provider-in-debug-mode
    """
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "provider.sock")
        server = grpc.server(ThreadPoolExecutor(8))
        handlers = {name: _handler(getattr(provider, name), *messages) for name, messages in CALLS.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        try:
            yield {"TF_REATTACH_PROVIDERS": json.dumps({GOOGLE: _reattach(socket)})}
        finally:
            server.stop(None).wait()


def _reattach(socket: str) -> dict[str, object]:
    return {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,  # terraform neither starts nor ends this process
        "Addr": {"Network": "unix", "String": socket},
    }


def _handler(method: Callable[[Any], Any], request: str, response: str) -> grpc.RpcMethodHandler:
    def call(message: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(message)
        except Exception as error:
            # The boundary: a defect of the stand-in must read as one, not as a fault of the configuration.
            log.exception("stand-in provider: %s", method.__name__)
            context.abort(grpc.StatusCode.INTERNAL, f"stand-in provider: {method.__name__}: {error!r}")

    return grpc.unary_unary_rpc_method_handler(call, MESSAGES[request].FromString, MESSAGES[response].SerializeToString)
