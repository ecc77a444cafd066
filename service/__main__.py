"""`python -m service`: serve with gunicorn, in an environment that suits a server of many threads."""

import os
import sys

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:service.gunicorn_conf", "service.app:from_environment()"]

# What is read before the first line of Python runs; whoever starts the process may set it otherwise.
PROCESS = {
    # glibc would keep a heap for each thread, and in each the largest image that it has ever seen: one heap. It keeps
    # what it has been given, up to 1 GiB, while there is work, and engine/heap.py gives that back when there is none
    # (mallopt(3)).
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    # torch's workers sleep when they wait for each other. Spinning, as is the default, they take the cores from the
    # threads that decode and post-process, and on a busy machine a forward takes several times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
}

if __name__ == "__main__":
    os.execve(sys.executable, COMMAND, PROCESS | os.environ)
