"""Full resource names, as argparse's types."""

from __future__ import annotations

import argparse
import re


def subscription_name(text: str) -> str:
    """The text, if it is a full subscription name."""
    return _full(text, "subscriptions")


def topic_name(text: str) -> str:
    """The text, if it is a full topic name."""
    return _full(text, "topics")


def _full(text: str, kind: str) -> str:
    if not re.fullmatch(rf"projects/[^/]+/{kind}/[^/]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: projects/PROJECT/{kind}/NAME")
    return text
