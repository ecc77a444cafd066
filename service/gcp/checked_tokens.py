"""Bearer tokens, and those that the platform has checked already: Cloud Run hands them on without their signature.

https://cloud.google.com/run/docs/troubleshooting#signature-removed
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from service.core import strict_json
from service.errors import Forbidden, Unauthorized


class CheckedTokens:
    """Lets in pushes of one service account. Only behind a platform that refuses tokens which do not hold."""

    def __init__(self, service_account: str) -> None:
        self._service_account = service_account

    def check(self, authorization: str | None) -> None:
        """Return when the header that the platform has checked may push here; else say why, without a word of it.

        Unauthorized: no token, or one that cannot be read. Forbidden: a token of somebody else.
        """
        check_account(_claims(bearer(authorization)), self._service_account)


def bearer(authorization: str | None) -> str:
    """The token of an `Authorization` header. Unauthorized when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("there is no bearer token; the subscription must push with an OIDC token")
    return token.strip()


def check_account(claims: Mapping[str, Any], service_account: str) -> None:
    """Forbidden for a token of somebody else, or whose e-mail address Google has not verified."""
    if claims.get("email") != service_account:
        raise Forbidden("the token is not that of PUSH_SERVICE_ACCOUNT")
    if claims.get("email_verified") is not True:
        raise Forbidden("the e-mail address in the token is not verified")


def _claims(token: str) -> dict[str, Any]:
    """The payload of a JSON Web Token (RFC 7519); nothing is verified here."""
    try:
        _, payload, _ = token.split(".")
        padded = payload + "=" * (-len(payload) % 4)
        claims = strict_json.loads(base64.urlsafe_b64decode(padded).decode())
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise Unauthorized("the token is malformed")
    return claims
