"""`python -m service`: serve with gunicorn."""

import os
import sys

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:service.gunicorn_conf", "service.app:from_environment()"]

if __name__ == "__main__":
    os.execv(sys.executable, COMMAND)
