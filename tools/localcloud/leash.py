"""Runs a command that must not outlive its starter: `python leash.py COMMAND ARGUMENT…`.

The starter holds the other end of this program's standard input.  When that closes, for whatever reason (also a
SIGKILL of the starter), the command is stopped.  Run as a file, with only the standard library, to start fast.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE_S = 5.0


def main(command: list[str]) -> int:
    """Run `command` until it ends, SIGTERM arrives or standard input closes; returns its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_stop_at_end_of_input, args=(child,), daemon=True).start()
    return child.wait()


def _stop_at_end_of_input(child: "subprocess.Popen[bytes]") -> None:
    # Not sys.stdin: the interpreter would wait a second for its lock at the exit.
    os.read(0, 1)
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
