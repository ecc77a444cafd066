"""The look itself: choose, show, and with --go save, send or drop, and acknowledge."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.api_core.exceptions import GoogleAPIError, InvalidArgument, NotFound, PermissionDenied
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1

from tools.redrive.choice import Choice
from tools.redrive.letter import Letter
from tools.redrive.queue import Queue
from tools.redrive.saved import CannotSave, Saved
from tools.redrive.sender import Sender
from tools.redrive.stop import Stop
from tools.terminal import json_line, printable

_DONE = {False: "republished", True: "discarded"}
_PLANNED = {False: "would be republished", True: "would be discarded"}


@dataclass
class Look:
    """What is asked, and what has been done so far."""

    arguments: argparse.Namespace
    choice: Choice
    sender: Sender
    saved: Saved | None
    looked_at: int = 0
    chosen: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def at(self, queue: Queue) -> None:
        """Go through the queue."""
        for letters in queue.batches():
            self.looked_at += len(letters)
            chosen = [letter for letter in letters if self.choice.takes(letter)][: self._left()]
            self.chosen += len(chosen)
            if chosen:
                self._deal_with(chosen, queue)
            if self._left() == 0:
                return

    def _left(self) -> int | None:
        limit: int | None = self.arguments.limit
        return None if limit is None else limit - self.chosen

    def _deal_with(self, letters: list[Letter], queue: Queue) -> None:
        """A message is acknowledged only when it is in the file, if one is wanted, and in its topic."""
        discard, go = self.arguments.discard, self.arguments.go
        if go and self.saved:
            self.saved.write(letters)
        problems = {} if discard else self._problems(letters)
        good = [letter for letter in letters if letter.id not in problems]
        if go:
            problems |= {} if discard else self.sender.send(good)
            good = [letter for letter in good if letter.id not in problems]
            queue.settle(good)
        for letter in letters:
            self._show(letter, problems.get(letter.id) or (_DONE if go else _PLANNED)[discard], letter.id in problems)

    def _problems(self, letters: list[Letter]) -> dict[str, str]:
        found = {letter.id: self.sender.destination(letter).problem for letter in letters}
        return {id: problem for id, problem in found.items() if problem}

    def _show(self, letter: Letter, outcome: str, failed: bool) -> None:
        self.counts["not sent" if failed else outcome] += 1
        topic = "" if self.arguments.discard else self.sender.destination(letter).topic
        if self.arguments.json:
            line = letter.described() | {"topic": topic or None, "outcome": "failed" if failed else outcome}
            print(json_line(line | ({"problem": outcome} if failed else {})))
            return
        where = f"{outcome} to {_short(topic)}" if topic and not failed else outcome
        attempts = "–" if letter.attempts is None else letter.attempts
        source = _short(letter.subscription) or "–"
        text = (
            f"{letter.id}  {letter.published:%Y-%m-%dT%H:%M:%SZ}  attempts {attempts}  {source}  "
            f"{letter.about}  ({letter.reason or 'no reason'})  {where}"
        )
        print(printable(text))


def run(arguments: argparse.Namespace) -> int:
    """Look, and say on standard error what came of it; 1 when something chosen could not be sent back."""
    choice = Choice(
        arguments.id, arguments.reason or "", arguments.object or "", arguments.older_than, arguments.newer_than
    )
    with Stop() as stop, ExitStack() as stack:
        try:
            saved = stack.enter_context(Saved(arguments.save)) if arguments.save else None
            return _look(arguments, choice, saved, stop, stack)
        except CannotSave as error:
            print(error, file=sys.stderr)
            return 2
        except (GoogleAPIError, GoogleAuthError) as error:
            print(_explained(error, arguments.subscription), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; what was not dealt with comes back within ten minutes", file=sys.stderr)
            return 130


def _look(arguments: argparse.Namespace, choice: Choice, saved: Saved | None, stop: Stop, stack: ExitStack) -> int:
    subscriber = stack.enter_context(pubsub_v1.SubscriberClient())
    publisher = pubsub_v1.PublisherClient()
    stack.callback(publisher.transport.close)
    look = Look(arguments, choice, Sender(publisher, subscriber, arguments.to), saved)
    queue = Queue(
        subscriber,
        arguments.subscription,
        time.monotonic,
        lambda: stop.asked,
        began=datetime.now(UTC),
        idle_s=arguments.idle,
        hold=arguments.hold,
    )
    with queue:
        look.at(queue)
        full = queue.full
    _summarize(look, full, queue.newer)
    if stop.asked:
        print("interrupted; what was not dealt with is back in the subscription", file=sys.stderr)
        return 130
    return 1 if look.counts["not sent"] else 0


def _summarize(look: Look, full: bool, newer: int) -> None:
    done = ", ".join(f"{number} {outcome}" for outcome, number in look.counts.items()) or "none chosen"
    hint = "" if look.arguments.go or not look.chosen else "; --go does it"
    print(f"{look.looked_at} messages looked at: {done}{hint}", file=sys.stderr)
    if newer:
        print(f"{newer} more have come since the look began, and were left as they are", file=sys.stderr)
    if full:
        print(f"there may be more: the look ended with {look.arguments.hold} messages held (--hold)", file=sys.stderr)


def _explained(error: Exception, subscription: str) -> str:
    """One line, naming the role that is missing where one is."""
    reason = getattr(error, "message", "") or str(error)
    if isinstance(error, NotFound):
        return f"not found: {reason} (looking into {subscription})".replace("\n", " ")
    if isinstance(error, PermissionDenied):
        return f"no permission: {reason} (reading {subscription} needs roles/pubsub.subscriber on it)".replace(
            "\n", " "
        )
    if isinstance(error, InvalidArgument):
        return f"refused: {reason}".replace("\n", " ")
    return f"trouble with Pub/Sub: {type(error).__name__}: {reason}".replace("\n", " ")


def _short(name: str) -> str:
    return name.rpartition("/")[2]
