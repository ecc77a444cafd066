"""Stand-in for the messages of JOBS_TOPIC until `core/jobs.py` reads all of them."""

from __future__ import annotations

import base64
import json

from service.core.events import ImageArrived
from service.core.folders import FolderPage
from service.core.naming import parse_gs_uri


def read_jobs_message(body: bytes) -> FolderPage | ImageArrived | None:
    """Read a push of what the fan-out publishes; None for anything else."""
    try:
        document = json.loads(base64.b64decode(json.loads(body)["message"]["data"]))
        if "folder" in document:
            return FolderPage.parse(document)
        uri, _, generation = document["image"].rpartition("#")
        return ImageArrived(*parse_gs_uri(uri), int(generation))
    except (ValueError, KeyError, TypeError):
        return None
