"""A small provider of OpenID Connect on loopback, with real keys, that can be made to misbehave."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import anyio
import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.dashboard.world import free_port

CLIENT, SECRET = "pulselake page", "a secret: with + signs & a % in it"
SUBJECT = "8d1f4f0c-nora"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Provider:
    """What it says, and how it goes wrong.

    Attributes:
        changed: what becomes of the claims before they are signed.
        signed: makes the ID token; by default it is signed with the newest key.
        refuses: the error that is brought back instead of a code.
        token: the body of the token endpoint instead of a right one.
        shown: keys that are shown beside those of the provider.
        delay_s: before each answer.
        drips: whether the configuration comes byte by byte, without end.
    """

    port: int
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=lambda: {"first": new_key()})
    changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    signed: Callable[[dict[str, Any]], str] | None = None
    configured: dict[str, Any] = field(default_factory=dict)
    refuses: str = ""
    token: bytes | None = None
    shown: list[dict[str, str]] = field(default_factory=list)
    delay_s: float = 0.0
    drips: bool = False
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        # The page is at 127.0.0.1, so this is another site to a browser.
        return f"http://localhost:{self.port}/realms/ward"

    def heal(self) -> None:
        """Behaves from now on."""
        self.changed, self.signed, self.configured, self.refuses = lambda claims: claims, None, {}, ""
        self.token, self.shown, self.delay_s, self.drips = None, [], 0.0, False

    def rotate(self) -> None:
        """Signs with a new key from now on; the old one is gone."""
        self.keys = {secrets.token_hex(4): new_key()}

    def claims(self, nonce: str) -> dict[str, Any]:
        now = int(time.time())
        said = {"iss": self.issuer, "sub": SUBJECT, "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": nonce}
        return self.changed(said)

    def sign(self, claims: dict[str, Any]) -> str:
        kid, key = next(reversed(self.keys.items()))
        return jwt.encode(claims, key, "RS256", {"kid": kid})

    @property
    def public_pem(self) -> bytes:
        _, key = next(reversed(self.keys.items()))
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    async def configuration(self, _: Request) -> Response:
        self.asked.append("configuration")
        await anyio.sleep(self.delay_s)
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?theme=dark",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }
        return StreamingResponse(_without_end()) if self.drips else JSONResponse(found | self.configured)

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        if self.refuses:
            back = {"error": self.refuses, "error_description": "<b>call 0900</b>", "state": asked["state"]}
            return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 303)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 303)

    async def exchange(self, request: Request) -> Response:
        self.asked.append("token")
        await anyio.sleep(self.delay_s)
        if self.token is not None:
            return Response(self.token, media_type="application/json")
        given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if [unquote(each) for each in given.split(":")] != [CLIENT, SECRET]:
            return JSONResponse({"error": "invalid_client"}, 401)
        form = {name: str(value) for name, value in (await request.form()).items()}
        # A code is good once.
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (asked["redirect_uri"], asked["code_challenge"]) != (form["redirect_uri"], challenge):
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = (self.signed or self.sign)(self.claims(asked["nonce"]))
        return JSONResponse({"id_token": token, "access_token": "unused", "token_type": "Bearer"})

    async def jwks(self, _: Request) -> Response:
        self.asked.append("keys")
        await anyio.sleep(self.delay_s)
        shown = [
            {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        # Keycloak shows keys for encryption beside them.
        encryption = {**shown[0], "kid": "for encryption", "use": "enc", "alg": "RSA-OAEP"}
        return JSONResponse({"keys": [encryption, *self.shown, *shown]})


async def _without_end() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await anyio.sleep(0.05)


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider until the block ends."""
    made = Provider(free_port())
    path = "/realms/ward"
    app = Starlette(
        routes=[
            Route(f"{path}/.well-known/openid-configuration", made.configuration),
            Route(f"{path}/authorize", made.authorize),
            Route(f"{path}/token", made.exchange, methods=["POST"]),
            Route(f"{path}/keys", made.jwks),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=made.port, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield made
    finally:
        server.should_exit = server.force_exit = True
        thread.join(300)
        assert not thread.is_alive()


def unsigned(claims: dict[str, Any], kid: str | None = None) -> str:
    """An ID token with the algorithm `none`."""
    return jwt.encode(claims, "", "none", {"kid": kid} if kid else {})


def by_public_key(pem: bytes, claims: dict[str, Any], kid: str) -> str:
    """An ID token whose HMAC has the public key as its secret, which everybody knows. PyJWT would not make one."""
    header = {"alg": "HS256", "typ": "JWT", "kid": kid}
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, claims)]
    text = b".".join(parts)
    mac = base64.urlsafe_b64encode(hmac.digest(pem, text, "sha256")).rstrip(b"=")
    return b".".join([text, mac]).decode()
