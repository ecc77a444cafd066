"""One JSON object a line, in the fields that Cloud Logging knows."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from service.core.context import Trace, current

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields
_CLOUD = "logging.googleapis.com/"


class JsonFormatter(logging.Formatter):
    """severity, time, message, logger, what was passed as `extra`, and the traceback when there is one.

    And what the request or event at hand is: its labels, and its trace, by which Cloud Logging joins it with the
    platform's own line. `project`: that of the traces; without it they are named by their id alone.
    """

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self._traces = f"projects/{project}/traces/" if project else ""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record on one line."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        line: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),  # RFC 3339
            "message": message,
            "logger": record.name,
        }
        return json.dumps(line | self._at_hand(), default=str)

    def _at_hand(self) -> dict[str, Any]:
        context = current()
        if context is None:
            return {}
        fields: dict[str, Any] = self._trace(context.trace) if context.trace else {}
        if context.labels:
            fields[f"{_CLOUD}labels"] = dict(context.labels)
        return fields

    def _trace(self, trace: Trace) -> dict[str, Any]:
        fields: dict[str, Any] = {f"{_CLOUD}trace": self._traces + trace.trace_id}
        if trace.span_id:
            fields[f"{_CLOUD}spanId"] = trace.span_id
        return fields | {f"{_CLOUD}trace_sampled": trace.sampled}


def config(level: str, project: str | None = None) -> dict[str, Any]:
    """The logging configuration, as logging.config.dictConfig and gunicorn take it."""
    quiet = {name: {"level": "WARNING"} for name in ("urllib3", "google", "httpx", "huggingface_hub", "cachecontrol")}
    # gunicorn's lines go to the one handler too; its access log would repeat the platform's own.
    servers = {
        "gunicorn.error": {"propagate": True, "handlers": []},
        "gunicorn.access": {"level": "WARNING", "propagate": False, "handlers": []},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter, "project": project}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": quiet | servers,
    }
