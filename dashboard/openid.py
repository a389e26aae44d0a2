"""Sign-in by OpenID Connect: the authorization code flow with PKCE, up to who somebody is at the provider.

Who has an account here, and what they may do, is decided by `users`. Nothing is kept between the two requests of a
sign-in but a random secret in a cookie of the browser, of which `state`, `nonce` and the verifier of PKCE are made.
"""

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import jwt

from dashboard.turns import Turns
from dashboard.users import Identity
from resources.secrets import SecretError, secret_of
from resources.settings import OIDC_URL, Settings

ALGORITHMS = ("RS256", "PS256", "ES256")
"""Those of the signature of an ID token: never `none`, and none whose key the public one could be taken for."""
LEEWAY_S = 30
"""How far the provider's clock and ours may differ."""
PATIENCE_S = 10.0
"""How long all requests of a step may take together."""
AT_ONCE, WAITING = 8, 40
"""How many steps may ask the provider at the same time, and how many more may wait, as part of their patience."""
MAX_ANSWER_BYTES = 1 << 20
_CODE = re.compile(r"[a-z_]{1,40}")
_AGAIN = "Nobody was signed in. Try again; if it stays like this, an administrator finds the reason in the audit trail."


class OpenIdError(Exception):
    """Nobody was signed in.

    Attributes:
        status: of the answer.
        text: what people are told.
        detail: what the audit trail is told; nothing of it is secret.
    """

    def __init__(self, status: int, text: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.text, self.detail = status, text, detail


def new_secret() -> str:
    """What a browser keeps while somebody signs in at the provider."""
    return secrets.token_urlsafe(32)


class OpenId:
    """A provider, such as Entra ID or Keycloak.

    Args:
        issuer: its address; the configuration is read below it.
        client_id: how the provider names this page.
        secret: gives the client's secret, None if there is none.
        scope: what is asked for.
        claim: the claim that names somebody for good.
        patience_s: see `PATIENCE_S`.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        secret: Callable[[], str | None],
        scope: str = "openid",
        claim: str = "sub",
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.issuer, self.patience_s = issuer, patience_s
        self._client_id, self._secret, self._scope, self._claim = client_id, secret, scope, claim
        self._host = urlsplit(issuer).netloc
        self.turns = Turns(AT_ONCE, WAITING)

    async def address(self, secret: str, redirect_uri: str) -> str:
        """Where the browser goes to sign in.

        Args:
            secret: of the browser, see `new_secret`.
            redirect_uri: where the provider sends it afterwards.

        Raises:
            OpenIdError: the provider does not answer as it should.
            BusyError: as many sign in as may.
        """
        found = await self._in_time(self._configuration)
        challenge = _text(hashlib.sha256(_derived(secret, "verifier").encode()).digest())
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scope,
            "state": _derived(secret, "state"),
            "nonce": _derived(secret, "nonce"),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return str(httpx.URL(found["authorization_endpoint"]).copy_merge_params(asked))

    async def identity(self, secret: str, redirect_uri: str, said: Mapping[str, str]) -> Identity:
        """Who has signed in.

        Args:
            secret, redirect_uri: the same as for `address`.
            said: what the provider had the browser bring along.

        Raises:
            OpenIdError: it is none of our sign-ins, it was refused, or the provider does not answer as it should.
            BusyError: as many sign in as may.
        """
        if not secret or not _is_same(said.get("state", ""), _derived(secret, "state")):
            text = "This sign-in was not begun in this browser, was finished already, or took longer than ten minutes."
            raise OpenIdError(400, f"{text} Nobody was signed in. Sign in again.", "another state")
        if "error" in said:
            raise self._refused(said["error"])
        token, keys = await self._in_time(lambda client: self._exchange(client, secret, redirect_uri, said))
        return self._identified(_claims(token, keys, self._client_id, self.issuer), _derived(secret, "nonce"))

    async def _in_time(self, ask: Callable[[httpx.AsyncClient], Any]) -> Any:
        # httpx bounds each wait for some bytes; a provider that sends one at a time would be waited for without end.
        try:
            async with (
                asyncio.timeout(self.patience_s),
                self.turns.awaited(),
                httpx.AsyncClient(verify=_certificates(), timeout=self.patience_s) as client,
            ):
                return await ask(client)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._broken(f"no answer: {type(error).__name__}") from error

    async def _configuration(self, client: httpx.AsyncClient) -> dict[str, str]:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        status, found = await _answer(client, "GET", url)
        if status != httpx.codes.OK or found is None:
            raise self._broken(f"the configuration: {status}")
        if found.get("issuer") != self.issuer:
            raise self._broken("the configuration is of another issuer than PULSELAKE_OIDC_ISSUER")
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if not all(_is_address(found.get(each)) for each in wanted):
            raise self._broken("the configuration has no encrypted addresses")
        return {each: found[each] for each in wanted}

    async def _exchange(
        self, client: httpx.AsyncClient, secret: str, redirect_uri: str, said: Mapping[str, str]
    ) -> tuple[str, dict[str, Any]]:
        """The ID token for a code, and the keys of now: a key that was rotated is known, one that was revoked not."""
        found = await self._configuration(client)
        form = {
            "grant_type": "authorization_code",
            "code": said.get("code", ""),
            "redirect_uri": redirect_uri,
            "code_verifier": _derived(secret, "verifier"),
        }
        ours = httpx.BasicAuth(quote(self._client_id, safe=""), quote(await self._client_secret(), safe=""))
        status, answer = await _answer(client, "POST", found["token_endpoint"], data=form, auth=ours)
        if answer is not None and isinstance(answer.get("error"), str):
            raise self._refused(answer["error"])
        if status != httpx.codes.OK or answer is None or not isinstance(answer.get("id_token"), str):
            raise self._broken(f"the token: {status}")
        status, keys = await _answer(client, "GET", found["jwks_uri"])
        if status != httpx.codes.OK or keys is None:
            raise self._broken(f"the keys: {status}")
        return answer["id_token"], keys

    async def _client_secret(self) -> str:
        try:
            found = await asyncio.to_thread(self._secret)
        except SecretError as error:
            raise self._broken("the key vault does not give the client's secret") from error
        if not found:
            raise self._broken("there is no secret of the name in PULSELAKE_OIDC_SECRET")
        return found

    def _identified(self, claims: Mapping[str, Any], nonce: str) -> Identity:
        if not _is_same(claims["nonce"], nonce):
            raise _wrong("another nonce")
        # The same token may be for others too; then `azp` says to whom it was given.
        is_for_others = claims["aud"] not in (self._client_id, [self._client_id])
        if claims.get("azp", None if is_for_others else self._client_id) != self._client_id:
            raise _wrong("it was given to another client")
        subject = claims.get(self._claim)
        if not isinstance(subject, str) or not subject.strip() or not subject.isprintable():
            raise _wrong(f"it has no claim {self._claim}; see PULSELAKE_OIDC_CLAIM and PULSELAKE_OIDC_SCOPE")
        if self._claim == "email" and claims.get("email_verified") is not True:
            raise _wrong("the e-mail is not verified")
        return Identity(self.issuer, subject)

    def _refused(self, code: str) -> OpenIdError:
        # A code of the standard is shown, and never a text: whoever makes a link could write one.
        named = code if _CODE.fullmatch(code) else "no known reason"
        return OpenIdError(403, f"The sign-in was refused at {self._host} ({named}). {_AGAIN}", f"refused: {named}")

    def _broken(self, detail: str) -> OpenIdError:
        text = f"Signing in at {self._host} does not work at the moment. {_AGAIN}"
        return OpenIdError(502, text, detail)


def open_id(settings: Settings, issuer: str) -> OpenId:
    """The provider that settings name."""
    return OpenId(
        issuer,
        settings.oidc_client_id,
        lambda: secret_of(settings, settings.oidc_secret),
        settings.oidc_scope,
        settings.oidc_claim,
    )


def _claims(token: str, keys: dict[str, Any], client_id: str, issuer: str) -> dict[str, Any]:
    """What an ID token says, if its signature, issuer, audience and times are right.

    Raises:
        OpenIdError: they are not.
    """
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        known = [each for each in jwt.PyJWKSet.from_dict(keys) if each.public_key_use in ("sig", None)]
        key = next((each for each in known if each.key_id == kid), None)
        if key is None:
            raise _wrong("it is signed by a key that the provider does not show")
        return jwt.decode(
            token,
            key,
            ALGORITHMS,
            options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"], "enforce_minimum_key_length": True},
            audience=client_id,
            issuer=issuer,
            leeway=LEEWAY_S,
        )
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise _wrong(type(error).__name__) from error


def _wrong(detail: str) -> OpenIdError:
    return OpenIdError(403, f"What the sign-in service says cannot be trusted. {_AGAIN}", f"ID token: {detail}")


async def _answer(client: httpx.AsyncClient, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any] | None]:
    """The status, and the object of JSON; None if it is none, or larger than anything that is one of these."""
    body = b""
    async with client.stream(method, url, headers={"accept": "application/json"}, **more) as answer:
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                return answer.status_code, None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return answer.status_code, None
    return answer.status_code, found if isinstance(found, dict) else None


def _is_address(value: object) -> bool:
    try:
        return isinstance(value, str) and re.fullmatch(OIDC_URL, value) is not None and bool(httpx.URL(value).host)
    except (httpx.InvalidURL, ValueError):
        return False


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _derived(secret: str, use: str) -> str:
    return _text(hmac.digest(secret.encode(), use.encode(), "sha256"))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _is_same(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
