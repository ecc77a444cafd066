"""OIDC tokens for push requests, and the certificates to check them with."""

import datetime
import threading
import time
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

ISSUER = "https://accounts.google.com"
KEY_ID = "localcloud"
LIFETIME_S = 3600


class TokenIssuer:
    """Signs tokens the way Google does, with a key of its own made on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def certificates(self) -> dict[str, str]:
        """Key id → PEM certificate, the document that `google.oauth2.id_token` fetches from a certs URL."""
        with self._lock:
            return {KEY_ID: self._certificate.public_bytes(serialization.Encoding.PEM).decode()}

    def token(self, service_account: str, audience: str) -> str:
        """A signed RS256 identity token of `service_account` for `audience`, valid for an hour from now."""
        with self._lock:
            signer = self._signer
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "azp": service_account,
            "sub": service_account,
            "email": service_account,
            "email_verified": True,
            "iat": now,
            "exp": now + LIFETIME_S,
        }
        return bytes(jwt.encode(signer, claims)).decode()

    # The cached properties are read with the lock held: pushes run in many threads, and there is one key.

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _signer(self) -> crypt.Signer:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        signer: crypt.Signer = crypt.RSASigner.from_string(pem, KEY_ID)
        return signer

    @cached_property
    def _certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, KEY_ID)])
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .sign(self._key, hashes.SHA256())
        )
