"""Runs a command that must not outlive its starter: `python leash.py GRACE_S COMMAND ARGUMENT…`.

The starter makes it the leader of a process group and holds the other end of its standard input. It becomes the command
itself, so process id, signals and exit status are the command's own; a watcher stays behind in the group. When standard
input closes, for whatever reason (also a SIGKILL of the starter), the watcher sends the command SIGTERM, and SIGKILL to
what is left of the group once the command has ended or `GRACE_S` seconds have passed. Run as a file, with only the
standard library, to start fast.
"""

import os
import signal
import sys
import time

POLL_S = 0.05


def main(grace_s: float, command: list[str]) -> None:
    """Leave the watcher behind and become `command`; exits with a message where there is no such program."""
    leader = os.getpid()
    child = os.fork()
    if child == 0:
        # A grandchild, so that the command has no child that it does not know of.
        if os.fork() == 0:
            _watch(leader, grace_s)
        os._exit(0)
    os.waitpid(child, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _watch(leader: int, grace_s: float) -> None:
    # Not sys.stdin: the interpreter would wait a second for its lock at the exit.
    os.read(0, 1)
    # No one else gets the id of the leader while the group has a member, and the watcher is one.
    until = time.monotonic() + grace_s
    try:
        os.kill(leader, signal.SIGTERM)
        while time.monotonic() < until:
            time.sleep(POLL_S)
            os.kill(leader, 0)
    except ProcessLookupError:
        pass
    os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
