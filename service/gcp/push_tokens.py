"""The identity tokens of authenticated pushes: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from cachecontrol import CacheControl
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from service.errors import CloudUnavailable, Unauthorized
from service.gcp.checked_tokens import bearer, check_account

GOOGLE_CERTS = "https://www.googleapis.com/oauth2/v1/certs"
_ISSUERS = ("accounts.google.com", "https://accounts.google.com")
_TIMEOUT_S = 10
_CLOCK_SKEW_S = 10
# What Cloud Run puts in the place of a signature that it has checked.
_REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


class PushTokens:
    """Lets in pushes with a token that Google has signed for one service account and one audience.

    Google's certificates are kept as long as they say themselves. May be called from many threads.
    """

    def __init__(self, audience: str, service_account: str, certs_url: str = GOOGLE_CERTS) -> None:
        self._audience = audience
        self._service_account = service_account
        self._certs_url = certs_url
        self._session = CacheControl(requests.Session())
        self._ask = _Impatient(self._session)

    def check(self, authorization: str | None) -> None:
        """Return when the header `Authorization` may push here; else say why, without a word of the token.

        Unauthorized: no token, or one that does not hold: signature, time, issuer, audience. Forbidden: a good token of
        somebody else, or one whose e-mail address Google has not verified. CloudUnavailable: no certificates.
        """
        token = bearer(authorization)
        if token.endswith(f".{_REMOVED}"):
            raise Unauthorized("the token's signature has been removed by the platform, which checks it: PUSH_AUTH=iam")
        claims = self._claims(token)
        if claims.get("iss") not in _ISSUERS:
            raise Unauthorized("the token's issuer is not Google")
        check_account(claims, self._service_account)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _claims(self, token: str) -> Mapping[str, Any]:
        """What `verify_oauth2_token` does, with the address of the certificates for a parameter."""
        try:
            claims: Mapping[str, Any] = id_token.verify_token(
                token, self._ask, self._audience, self._certs_url, clock_skew_in_seconds=_CLOCK_SKEW_S
            )
        except (TransportError, requests.RequestException) as error:
            raise CloudUnavailable(f"cannot fetch Google's certificates: {type(error).__name__}") from error
        except (GoogleAuthError, ValueError, TypeError):
            # Their texts quote the token.
            raise Unauthorized(
                "the token is malformed, expired, for another audience than PUSH_AUDIENCE, or not signed by Google"
            ) from None
        return claims


class _Impatient(Request):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return super().__call__(*arguments, **{"timeout": _TIMEOUT_S, **options})  # type: ignore[no-untyped-call]
