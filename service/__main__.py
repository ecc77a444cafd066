"""`python -m service`: serve with gunicorn."""

import os
import sys

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:service.gunicorn_conf", "service.app:from_environment()"]

# glibc's heaps, one for each thread and never given back, would grow with every large image that any thread has seen:
# one heap, and whatever is large mapped and unmapped (mallopt(3)). Read before the first allocation, hence here.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "8388608"}

if __name__ == "__main__":
    os.execve(sys.executable, COMMAND, ALLOCATOR | os.environ)
