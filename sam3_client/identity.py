"""Identity tokens for a service behind IAM, such as one on Cloud Run."""

from __future__ import annotations

import threading
from typing import Any


class IdentityTokens:
    """Call it for a Google identity token for `audience` (a Cloud Run service: its URL), renewed before it expires.

    From the service account file in GOOGLE_APPLICATION_CREDENTIALS, or from the metadata server on Google Cloud.
    Raises ImportError without google-auth, and google-auth's errors where there is no identity.
    """

    def __init__(self, audience: str) -> None:
        self._audience = audience
        self._lock = threading.Lock()
        self._credentials: Any = None
        self._request: Any = None

    def __call__(self) -> str:
        """A token that is good for some minutes at least."""
        with self._lock:
            if self._credentials is None:
                self._connect()
            # google-auth counts a token as expired a few minutes before it is.
            if not self._credentials.valid:
                self._credentials.refresh(self._request)
            return str(self._credentials.token)

    def _connect(self) -> None:
        try:
            import google.auth.transport.urllib3
            import google.oauth2.id_token
        except ImportError as error:
            raise ImportError("identity tokens need google-auth: pip install google-auth") from error
        import urllib3

        self._request = google.auth.transport.urllib3.Request(urllib3.PoolManager())
        self._credentials = google.oauth2.id_token.fetch_id_token_credentials(self._audience, self._request)
