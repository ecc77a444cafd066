"""One JSON object a line, in the fields that Cloud Logging knows."""

from __future__ import annotations

import json
import logging
from typing import Any

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """severity, time, message, logger, what was passed as `extra`, and the traceback when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record on one line."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        line: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= {
            "severity": record.levelname,
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "message": message,
            "logger": record.name,
        }
        return json.dumps(line, default=str)


def config(level: str) -> dict[str, Any]:
    """The logging configuration, as logging.config.dictConfig and gunicorn take it."""
    quiet = {name: {"level": "WARNING"} for name in ("urllib3", "google", "httpx", "huggingface_hub")}
    # gunicorn's lines go to the one handler too; its access log would repeat the platform's own.
    servers = {
        "gunicorn.error": {"propagate": True, "handlers": []},
        "gunicorn.access": {"level": "WARNING", "propagate": False, "handlers": []},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": quiet | servers,
    }
