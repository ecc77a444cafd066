"""Tokens of pushes, signed by a key of the tests' own and checked with certificates that a real server hands out."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask.testing import FlaskClient
from google.auth import crypt, jwt

from service.app import create_app, push_check
from service.errors import CloudUnavailable, Forbidden, ServiceError, Unauthorized
from service.gcp.push_tokens import PushTokens
from service.settings import Settings
from tests.serving import serving
from tests.staged import unstarted_segmenter
from tools.localcloud.pubsub.oidc import TokenIssuer

AUDIENCE, ACCOUNT = "sam3", "pusher@p.iam.gserviceaccount.com"


class KeyServer:
    """Serves certificates as Google does, to be kept for an hour; counts how often it is asked."""

    def __init__(self, certificates: dict[str, str]) -> None:
        self.asked = 0
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = json.dumps(certificates).encode()
                self.send_response(outer.status)
                self.send_header("Cache-Control", "public, max-age=3600, must-revalidate")
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._open = ExitStack()
        self.url = self._open.enter_context(serving(Handler)) + "/certs"

    def close(self) -> None:
        self._open.close()


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture
def keys(issuer: TokenIssuer) -> Iterator[KeyServer]:
    with closing(KeyServer(issuer.certificates)) as server:
        yield server


@pytest.fixture
def tokens(keys: KeyServer) -> Iterator[PushTokens]:
    with closing(PushTokens(AUDIENCE, ACCOUNT, keys.url)) as tokens:
        yield tokens


def claims(**changes: Any) -> dict[str, Any]:
    """A good token's but for `changes`; None leaves one out, times are seconds from now."""
    now = int(time.time())
    good: dict[str, Any] = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": ACCOUNT,
        "email_verified": True,
        "iat": 0,
        "exp": 3600,
    } | changes
    times = {name: now + good[name] for name in ("iat", "exp") if isinstance(good[name], int)}
    return {name: value for name, value in (good | times).items() if value is not None}


Sign = Callable[..., str]


@pytest.fixture(scope="module")
def sign(issuer: TokenIssuer) -> Sign:
    def sign(**changes: Any) -> str:
        return bytes(jwt.encode(issuer._signer, claims(**changes))).decode()

    return sign


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str, signature: str = "", **changes: Any) -> str:
    return f"{segment({'alg': algorithm, 'kid': 'localcloud', 'typ': 'JWT'})}.{segment(claims(**changes))}.{signature}"


def of_another_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return bytes(jwt.encode(crypt.RSASigner.from_string(pem, "localcloud"), claims())).decode()


def test_the_right_token_may_push(tokens: PushTokens, sign: Sign, issuer: TokenIssuer) -> None:
    tokens.check(f"Bearer {sign()}")
    tokens.check(f"bearer  {sign(iss='accounts.google.com')} ")
    tokens.check(f"Bearer {issuer.token(ACCOUNT, AUDIENCE)}")


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"exp": -60, "iat": -3660}, Unauthorized),
        ({"iat": 900}, Unauthorized),
        ({"exp": None}, Unauthorized),
        ({"exp": "tomorrow"}, Unauthorized),
        ({"aud": "another service"}, Unauthorized),
        ({"aud": [AUDIENCE]}, Unauthorized),
        ({"aud": None}, Unauthorized),
        ({"iss": "https://accounts.example.com"}, Unauthorized),
        ({"iss": None}, Unauthorized),
        ({"email": "somebody@p.iam.gserviceaccount.com"}, Forbidden),
        ({"email": None}, Forbidden),
        ({"email_verified": False}, Forbidden),
        ({"email_verified": "true"}, Forbidden),
        ({"email_verified": None}, Forbidden),
    ],
)
def test_claims_that_may_not(
    tokens: PushTokens, sign: Sign, changes: dict[str, Any], refused: type[ServiceError]
) -> None:
    with pytest.raises(refused):
        tokens.check(f"Bearer {sign(**changes)}")


def with_its_signature_removed(**changes: Any) -> str:
    return unsigned("RS256", "SIGNATURE_REMOVED_BY_GOOGLE", **changes)


NO_TOKENS = {
    "nothing": lambda: None,
    "empty": lambda: "",
    "another scheme": lambda: "Basic cHVzaGVyOnNlY3JldA==",
    "no token": lambda: "Bearer ",
    "garbage": lambda: "Bearer garbage",
    "three times garbage": lambda: "Bearer a.b.c",
    "not base64": lambda: "Bearer ü.ü.ü",
    "lists": lambda: f"Bearer {segment([])}.{segment([])}.{segment([])}",
    "alg none": lambda: f"Bearer {unsigned('none')}",
    "unsigned": lambda: f"Bearer {unsigned('RS256')}",
    "signature removed": lambda: f"Bearer {with_its_signature_removed()}",
    "symmetric": lambda: f"Bearer {unsigned('HS256', 'c2lnbmVk')}",
    "odd algorithm": lambda: f"Bearer {segment({'alg': ['RS256']})}.{segment(claims())}.c2lnbmVk",
    "odd key": lambda: f"Bearer {segment({'alg': 'RS256', 'kid': ['x']})}.{segment(claims())}.c2lnbmVk",
    "unknown key": lambda: f"Bearer {segment({'alg': 'RS256', 'kid': 'x'})}.{segment(claims())}.c2lnbmVk",
    "signed by another": lambda: f"Bearer {of_another_key()}",
}


@pytest.mark.parametrize("authorization", NO_TOKENS.values(), ids=NO_TOKENS.keys())
def test_what_is_no_token_of_google(tokens: PushTokens, authorization: Callable[[], str | None]) -> None:
    header = authorization()
    with pytest.raises(Unauthorized) as caught:
        tokens.check(header)
    assert header is None or len(header) < 10 or header[8:] not in caught.value.detail


def test_another_payload_under_a_good_signature(tokens: PushTokens, sign: Sign) -> None:
    head, _, signature = sign(email="somebody@p.iam.gserviceaccount.com").split(".")
    with pytest.raises(Unauthorized):
        tokens.check(f"Bearer {head}.{segment(claims())}.{signature}")


def test_a_removed_signature_hints_at_the_setting(tokens: PushTokens) -> None:
    with pytest.raises(Unauthorized, match="PUSH_AUTH=iam"):
        tokens.check(f"Bearer {with_its_signature_removed()}")


def test_certificates_are_fetched_once(tokens: PushTokens, sign: Sign, keys: KeyServer) -> None:
    for _ in range(5):
        tokens.check(f"Bearer {sign()}")
    assert keys.asked == 1


def test_without_certificates_the_event_is_kept(tokens: PushTokens, sign: Sign, keys: KeyServer) -> None:
    keys.status = 500
    with pytest.raises(CloudUnavailable):
        tokens.check(f"Bearer {sign()}")
    keys.status = 200
    tokens.check(f"Bearer {sign()}")


def test_a_key_server_that_is_not_there() -> None:
    with closing(PushTokens(AUDIENCE, ACCOUNT, "http://127.0.0.1:1/certs")) as tokens:  # noqa: SIM117
        with pytest.raises(CloudUnavailable):
            tokens.check(f"Bearer {unsigned('RS256')}")


@pytest.fixture
def client(tokens: PushTokens) -> FlaskClient:
    settings = Settings.from_environment({})
    return create_app(settings, unstarted_segmenter(), None, check_push=tokens.check).test_client()


def test_the_door_asks_before_it_reads_anything(client: FlaskClient, sign: Sign) -> None:
    """Whoever is let in meets a door without a worker."""
    missing = client.post("/events", data=b"{}")
    assert (missing.status_code, missing.get_json()["code"]) == (401, "unauthorized")
    assert missing.content_type == "application/problem+json"
    assert missing.headers["WWW-Authenticate"] == "Bearer"
    assert missing.get_json()["retryable"] is False
    other = client.post("/events", data=b"{}", headers={"Authorization": f"Bearer {sign(email='x@y.z')}"})
    assert (other.status_code, other.get_json()["code"]) == (403, "forbidden")
    good = client.post("/events", data=b"{}", headers={"Authorization": f"Bearer {sign()}"})
    assert (good.status_code, good.get_json()["code"]) == (503, "events_off")


def test_only_that_door_asks(client: FlaskClient) -> None:
    assert client.get("/health").status_code == 200
    assert client.post("/segment").status_code == 400


def test_with_iam_nobody_asks() -> None:
    client = create_app(Settings.from_environment({}), unstarted_segmenter(), None).test_client()
    removed = {"Authorization": f"Bearer {with_its_signature_removed()}"}
    assert client.post("/events", data=b"{}", headers=removed).get_json()["code"] == "events_off"


@pytest.fixture
def of_account() -> Iterator[FlaskClient]:
    """As on Cloud Run, with PUSH_AUTH=iam and one account that may push."""
    settings = Settings.from_environment({"PUSH_SERVICE_ACCOUNT": ACCOUNT})
    with ExitStack() as stack:
        check = push_check(settings, stack)
        yield create_app(settings, unstarted_segmenter(), None, check_push=check).test_client()


SOMEBODY = "somebody@p.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (503, "events_off")),
        ({"email": SOMEBODY}, (403, "forbidden")),
        ({"email": None}, (403, "forbidden")),
        ({"email_verified": False}, (403, "forbidden")),
        ({"email_verified": None}, (403, "forbidden")),
    ],
)
def test_with_iam_only_the_account_that_is_set_may_push(
    of_account: FlaskClient, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    headers = {"Authorization": f"Bearer {with_its_signature_removed(**changes)}"}
    answer = of_account.post("/events", data=b"{}", headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == expected
    assert of_account.post("/segment").status_code == 400


@pytest.mark.parametrize(
    "authorization",
    [
        *(None, "", "Basic cHVzaGVyOnNlY3JldA==", "Bearer ", "Bearer garbage", "Bearer a.b.c", "Bearer \xfc.\xfc.\xfc"),
        f"Bearer {segment([])}.{segment([])}.{segment([])}",
        f"Bearer x.{segment('text')}.x",
        f"Bearer {segment({})}.{'W' * 100_000}.",
    ],
)
def test_with_iam_and_an_account_there_must_be_a_token(of_account: FlaskClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = of_account.post("/events", data=b"{}", headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("checked", [lambda: f"Bearer {with_its_signature_removed(email=SOMEBODY)}", str])
def test_a_token_that_cloud_run_has_not_checked_is_no_token(
    of_account: FlaskClient, checked: Callable[[], str]
) -> None:
    """With X-Serverless-Authorization the platform looks at nothing else: anybody could write the other header."""
    forged = f"Bearer {with_its_signature_removed()}"
    headers = {"X-Serverless-Authorization": checked(), "Authorization": forged}
    assert of_account.post("/events", data=b"{}", headers=headers).status_code in (401, 403)
    headers = {"X-Serverless-Authorization": forged, "Authorization": "Bearer of-somebody-elses"}
    assert of_account.post("/events", data=b"{}", headers=headers).get_json()["code"] == "events_off"
