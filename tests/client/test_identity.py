"""Identity tokens as google-auth gets them: from a token endpoint and a metadata server, over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, exceptions, jwt

from sam3_client import IdentityTokens, Sam3Client

AUDIENCE = "https://sam3-abc.a.run.app"
ACCOUNT = "caller@p.iam.gserviceaccount.com"
FOUND = {
    "image": {"width": 1, "height": 1},
    "model": {"id": "m", "revision": "1", "device": "cpu", "dtype": "float32"},
    "results": [],
    "timing_ms": {},
}
TOKEN_ANSWER = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def token(key: rsa.RSAPrivateKey) -> Callable[[int], str]:
    """An identity token that is good for so many seconds; google-auth reads its `exp`."""

    def token(seconds: int) -> str:
        now = int(time.time())
        claims = {"aud": AUDIENCE, "email": ACCOUNT, "iat": now, "exp": now + seconds}
        return bytes(jwt.encode(crypt.RSASigner.from_string(pem(key), "k"), claims)).decode()

    return token


@pytest.fixture
def account(script: Any, key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account file whose token endpoint is the script."""
    file = tmp_path / "key.json"
    info = {"type": "service_account", "client_email": ACCOUNT, "private_key": pem(key).decode(), "private_key_id": "k"}
    file.write_text(json.dumps(info | {"token_uri": f"{script.url}/token", "project_id": "p"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


def granted(token: str) -> Any:
    return 200, TOKEN_ANSWER, json.dumps({"id_token": token}).encode()


@pytest.mark.usefixtures("account")
def test_a_service_account_asks_for_the_audience_and_sends_what_it_gets(
    script: Any, token: Callable[[int], str], key: rsa.RSAPrivateKey
) -> None:
    identity = token(3600)
    script.answers = [granted(identity), *[(200, {}, json.dumps(FOUND).encode())] * 2]
    with Sam3Client(script.url, token=IdentityTokens(AUDIENCE)) as client:
        for _ in range(2):
            client.segment("gs://b/o.jpg", "cat")
    assert script.paths == ["/token", "/segment", "/segment"], "a token that is good is not asked for again"
    assert [headers["Authorization"] for headers, _ in script.seen[1:]] == [f"Bearer {identity}"] * 2
    [assertion] = parse_qs(script.seen[0][1].decode())["assertion"]
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(assertion, certs=public, audience=None, verify=True)
    assert (claims["target_audience"], claims["iss"]) == (AUDIENCE, ACCOUNT)


@pytest.mark.usefixtures("account")
def test_a_token_is_renewed_before_it_ends(script: Any, token: Callable[[int], str]) -> None:
    short, long = token(30), token(3600)
    script.answers = [granted(short), granted(long)]
    tokens = IdentityTokens(AUDIENCE)
    assert [tokens() for _ in range(3)] == [short, long, long]


@pytest.mark.usefixtures("account")
def test_an_account_that_is_refused(script: Any) -> None:
    script.answers = [(400, TOKEN_ANSWER, b'{"error": "invalid_grant", "error_description": "disabled"}')]
    with pytest.raises(exceptions.RefreshError, match="disabled"):
        IdentityTokens(AUDIENCE)()


ON_GOOGLE_CLOUD = f"""
from sam3_client import IdentityTokens
tokens = IdentityTokens({AUDIENCE!r})
print(tokens(), tokens() == tokens())
"""


def test_the_metadata_server_of_google_cloud(script: Any, token: Callable[[int], str]) -> None:
    """Its address is read when google-auth is imported, so this is a process of its own."""
    identity, google = token(3600), {"Metadata-Flavor": "Google"}
    about = json.dumps({"email": ACCOUNT, "scopes": [], "aliases": ["default"]}).encode()
    script.answers = [
        (200, google, b""),
        (200, google | TOKEN_ANSWER, about),
        (200, google | {"Content-Type": "text/html"}, identity.encode()),
    ]
    host = script.url.removeprefix("http://")
    environment = {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "PYTHONPATH": str(Path(__file__).parents[2])}
    kept = {name: value for name, value in os.environ.items() if name != "GOOGLE_APPLICATION_CREDENTIALS"}
    done = subprocess.run(
        [sys.executable, "-c", ON_GOOGLE_CLOUD], env=kept | environment, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.split() == [identity, "True"], done.stderr
    asked = urlsplit(script.paths[-1])
    assert asked.path.endswith("/instance/service-accounts/default/identity")
    assert parse_qs(asked.query)["audience"] == [AUDIENCE]
    assert {name.lower(): value for name, value in script.seen[-1][0].items()}["metadata-flavor"] == "Google"


def test_where_there_is_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file.json")
    with pytest.raises(exceptions.DefaultCredentialsError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        IdentityTokens(AUDIENCE)()
