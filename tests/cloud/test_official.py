"""Where Google's emulator is, every test of this folder runs against it too; where it is not, this one says so."""

from __future__ import annotations

import os
import uuid

import pytest

from tools.localcloud import clients


def test_googles_emulator_takes_part() -> None:
    host = os.environ.get("PUBSUB_EMULATOR_HOST_OFFICIAL")
    if not host:
        pytest.skip("PUBSUB_EMULATOR_HOST_OFFICIAL is not set: these tests have run on our own emulator alone")
    publisher = clients.publisher_client(host)
    topic = f"projects/p/topics/t-{uuid.uuid4().hex}"
    assert publisher.create_topic(name=topic).name == topic
    publisher.delete_topic(topic=topic)
    clients.close_publisher(publisher)
