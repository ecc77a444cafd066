"""Subscription filters: https://cloud.google.com/pubsub/docs/subscription-message-filter#filtering_syntax."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping

from tools.localcloud.pubsub.errors import InvalidArgumentError

Attributes = Mapping[str, str]
Predicate = Callable[[Attributes], bool]

MAX_BYTES = 256

_TOKEN = re.compile(r'\s*(?P<token>"(?:[^"\\]|\\.)*"|\w[\w\-]*|!=|[().,:=\-])')


def accept_all(attributes: Attributes) -> bool:
    """The filter of a subscription without one."""
    return True


def compile_filter(expression: str) -> Predicate:
    """The predicate that `expression` describes; InvalidArgumentError where Pub/Sub would refuse it."""
    if not expression:
        return accept_all
    if len(expression.encode()) > MAX_BYTES:
        raise InvalidArgumentError(f"Filter is longer than {MAX_BYTES} bytes: {expression}")
    return _Parser(expression).parse()


class _Parser:
    """Recursive descent; AND and OR may be mixed only with parentheses."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = list(_tokens(expression.rstrip()))
        self._at = 0

    def parse(self) -> Predicate:
        predicate = self._expression_()
        if self._peek():
            raise self._error()
        return predicate

    def _expression_(self) -> Predicate:
        terms = [self._term()]
        joiner = self._peek()
        while joiner in ("AND", "OR") and self._peek() == joiner:
            self._next()
            terms.append(self._term())
        combine = any if joiner == "OR" else all
        return lambda attributes: combine(term(attributes) for term in terms)

    def _term(self) -> Predicate:
        token = self._next()
        if token in ("NOT", "-"):
            negated = self._term()
            return lambda attributes: not negated(attributes)
        if token == "(":
            predicate = self._expression_()
            self._expect(")")
            return predicate
        if token == "hasPrefix":
            return self._has_prefix()
        if token == "attributes":
            return self._comparison()
        raise self._error()

    def _has_prefix(self) -> Predicate:
        self._expect("(", "attributes", ".")
        key = self._key()
        self._expect(",")
        prefix = self._string()
        self._expect(")")
        return lambda attributes: attributes.get(key, "").startswith(prefix) and key in attributes

    def _comparison(self) -> Predicate:
        if self._peek() == ":":
            self._next()
            key = self._key()
            return lambda attributes: key in attributes
        self._expect(".")
        key, operator, value = self._key(), self._next(), self._string()
        if operator not in ("=", "!="):
            raise self._error()
        return lambda attributes: (attributes.get(key) == value) == (operator == "=")

    def _key(self) -> str:
        token = self._next()
        if token.startswith('"'):
            return _unquote(token)
        if not re.fullmatch(r"\w[\w\-]*", token):
            raise self._error()
        return token

    def _string(self) -> str:
        token = self._next()
        if not token.startswith('"'):
            raise self._error()
        return _unquote(token)

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, *tokens: str) -> None:
        for token in tokens:
            if self._next() != token:
                raise self._error()

    def _error(self) -> InvalidArgumentError:
        return InvalidArgumentError(f"Invalid filter: {self._expression}")


def _tokens(expression: str) -> Iterator[str]:
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise InvalidArgumentError(f"Invalid filter: {expression}")
        yield match["token"]
        position = match.end()


def _unquote(literal: str) -> str:
    try:
        return str(ast.literal_eval(literal))
    except (SyntaxError, ValueError) as error:
        raise InvalidArgumentError(f"Invalid string in filter: {literal}") from error
