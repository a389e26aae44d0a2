"""Sign-in by OpenID Connect, at a real provider on loopback that can be made to misbehave."""

import operator
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from dashboard import access
from dashboard.access import Role, Scope
from dashboard.audit import COUNTED_FOR, Audit
from dashboard.database import page_database
from dashboard.openid import MAX_ANSWER_BYTES, PATIENCE_S
from dashboard.pages import COOKIE
from dashboard.routes_openid import ATTEMPT
from dashboard.turns import Turns
from dashboard.users import Identity, User
from resources.settings import Settings
from tests.dashboard.browser import tab
from tests.dashboard.provider import CLIENT, SECRET, SUBJECT, Provider, by_public_key, new_key, provider, unsigned
from tests.dashboard.test_security import OWN, Server, served, token
from tests.dashboard.world import PASSWORD, free_port, now
from tests.services.chromium import chromium

pytestmark = pytest.mark.service

SHORT_S = 0.5


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Iterator[None]:
    """Hashes that take no time: what they cost is looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "_COST", 2)
        yield


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture(scope="module")
def page(keycloak: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OIDC_CLIENT_SECRET", SECRET)
        settings = Settings(
            home=tmp_path_factory.mktemp("page"),
            hub_port=1,
            page_port=free_port(),
            oidc_issuer=keycloak.issuer,
            oidc_client_id=CLIENT,
            _env_file=None,
        )
        with served(settings) as made:
            made.site.users.bind("nora", Identity(keycloak.issuer, SUBJECT))
            yield made


@pytest.fixture(autouse=True)
def healthy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins with a provider that behaves."""
    yield
    if "keycloak" in request.fixturenames:
        keycloak: Provider = request.getfixturevalue("keycloak")
        keycloak.heal()
        keycloak.rotate()
    if "page" in request.fixturenames:
        server: Server = request.getfixturevalue("page")
        assert server.site.open_id is not None
        server.site.open_id.patience_s = PATIENCE_S


def returned(client: httpx.Client, target: str = "") -> str:
    """Begins a sign-in, goes to the provider, and says where it sends the browser back to."""
    begun = client.get("/login/openid", params={"next": target})
    assert begun.status_code == 303, begun.text
    return httpx.get(begun.headers["location"], timeout=300).headers["location"]


def signed_in(client: httpx.Client, target: str = "") -> httpx.Response:
    return client.get(returned(client, target))


def last_row(server: Server) -> tuple[str, str, str]:
    """The newest row of the audit trail, as if failures were looked at once their minute is over."""
    database = page_database(server.site.settings.root)
    Audit(database, lambda: now() + 2 * COUNTED_FOR).settle()
    database.close()
    row = server.site.audit.rows(1)[0]
    return row.who, row.what, row.detail


def is_refused(said: httpx.Response, server: Server, status: int, detail: str) -> None:
    """A page that people understand, a row of the audit trail, no session, and nothing of how it failed inside."""
    assert said.status_code == status, said.text
    assert "obody was signed in" in said.text
    assert "Sign in with your organisation" in said.text
    assert "Traceback" not in said.text
    assert COOKIE not in said.cookies
    who, what, told = last_row(server)
    assert (who, what) == ("-", "login refused")
    assert detail in told


def test_who_signs_in_at_the_provider_is_in_their_account_and_in_no_other_session(page: Server) -> None:
    with page.client() as client:
        before = page.signed_in("carl")
        client.cookies.set(COOKIE, before, domain="127.0.0.1", path="/")
        said = signed_in(client, "/alarms?days=7")
        assert (said.status_code, said.headers["location"]) == (303, "/alarms?days=7")
        assert client.cookies.get(COOKIE) != before
        assert "nora, clinician" in client.get("/").text
        assert ATTEMPT not in client.cookies
    with httpx.Client(base_url=page.address, cookies={COOKIE: before}) as old:
        assert old.get("/").status_code == 401
    assert ("nora", "login", "OpenID Connect") in [(row.who, row.what, row.detail) for row in page.site.audit.rows(5)]
    cookies = {each.strip() for each in said.headers["set-cookie"].split(";")}
    assert {"HttpOnly", "SameSite=lax"} <= cookies


def test_the_browser_takes_a_challenge_along_and_keeps_what_it_is_made_of(page: Server) -> None:
    with page.client() as client:
        asked = [parse_qs(urlsplit(client.get("/login/openid").headers["location"]).query) for _ in range(2)]
        kept = client.cookies[ATTEMPT]
    assert asked[0]["redirect_uri"] == [f"{page.address}/login/openid/done"]
    assert asked[0]["theme"] == ["dark"]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[1][name][0]) == 43
        assert asked[1][name][0] not in kept
    assert len({asked[1][name][0] for name in ("state", "nonce", "code_challenge")}) == 3


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "/\n/evil"])
def test_signing_in_leads_nowhere_else(page: Server, target: str) -> None:
    with page.client() as client:
        assert signed_in(client, target).headers["location"] == "/"


def test_where_somebody_wanted_to_go_is_no_reason_not_to_come_in(page: Server) -> None:
    with page.client() as client:
        assert signed_in(client, f"/alarms?cause={'x' * 1900}").headers["location"].startswith("/alarms?cause=xx")
        assert signed_in(client, f"/alarms?cause={'ü' * 1900}").headers["location"] == "/"


def test_a_sign_in_that_another_browser_began_is_none(page: Server) -> None:
    with page.client() as attacker, page.client() as victim:
        link = returned(attacker)
        is_refused(victim.get(link), page, 400, "another state")
        returned(victim)
        is_refused(victim.get(link), page, 400, "another state")
        is_refused(victim.get("/login/openid/done"), page, 400, "another state")


def test_what_was_used_once_is_used_up(page: Server) -> None:
    with page.client() as client, page.client() as thief:
        link = returned(client)
        kept = client.cookies[ATTEMPT]
        assert client.get(link).status_code == 303
        client.cookies.delete(COOKIE)
        is_refused(client.get(link), page, 400, "another state")
        # Whoever has copied all that the browser had still needs a code that is not spent.
        thief.cookies.set(ATTEMPT, kept)
        is_refused(thief.get(link), page, 403, "refused: invalid_grant")


Change = Callable[[dict[str, Any]], dict[str, Any]]
FAULTS: dict[str, tuple[Change, str]] = {
    "another nonce": (lambda said: said | {"nonce": "x" * 43}, "another nonce"),
    "no nonce": (lambda said: {name: said[name] for name in said if name != "nonce"}, "MissingRequiredClaimError"),
    "another audience": (lambda said: said | {"aud": "another page"}, "InvalidAudienceError"),
    "others too": (lambda said: said | {"aud": [CLIENT, "another page"]}, "another client"),
    "another party": (lambda said: said | {"azp": "another page"}, "another client"),
    "another issuer": (lambda said: said | {"iss": "https://evil.example"}, "InvalidIssuerError"),
    "expired": (lambda said: said | {"exp": int(time.time()) - 60}, "ExpiredSignatureError"),
    "without end": (lambda said: {name: said[name] for name in said if name != "exp"}, "MissingRequiredClaimError"),
    "issued later": (lambda said: said | {"iat": int(time.time()) + 3600}, "ImmatureSignatureError"),
    "not yet": (lambda said: said | {"nbf": int(time.time()) + 3600}, "ImmatureSignatureError"),
    "nobody": (lambda said: {name: said[name] for name in said if name != "sub"}, "MissingRequiredClaimError"),
    "a number": (lambda said: said | {"sub": 7}, "InvalidSubjectError"),
    "half of a pair": (lambda said: said | {"sub": "\ud83d"}, "no claim sub"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_id_token_that_is_wrong_signs_nobody_in(page: Server, keycloak: Provider, fault: str) -> None:
    keycloak.changed, detail = FAULTS[fault]
    with page.client() as client:
        is_refused(signed_in(client), page, 403, detail)


def test_clocks_may_differ_a_little_and_a_token_may_be_for_several(page: Server, keycloak: Provider) -> None:
    keycloak.changed = lambda said: said | {"iat": said["iat"] + 5, "exp": said["iat"] - 5, "aud": [CLIENT, "x"]}
    with page.client() as client:
        is_refused(signed_in(client), page, 403, "another client")
    fits = keycloak.changed
    keycloak.changed = lambda said: fits(said) | {"azp": CLIENT}
    with page.client() as client:
        assert signed_in(client).status_code == 303


def test_a_signature_is_the_providers_or_none(page: Server, keycloak: Provider) -> None:
    kid = next(iter(keycloak.keys))
    with page.client() as client:
        keycloak.signed = unsigned
        is_refused(signed_in(client), page, 403, "ID token")
        keycloak.signed = lambda said: unsigned(said, kid)
        is_refused(signed_in(client), page, 403, "ID token: InvalidAlgorithmError")
        keycloak.signed = lambda said: by_public_key(keycloak.public_pem, said, kid)
        is_refused(signed_in(client), page, 403, "ID token: InvalidAlgorithmError")
        keycloak.shown = [{"kty": "oct", "kid": "everybody's", "alg": "HS256", "k": "eA" * 22}]
        secret = jwt.PyJWK(keycloak.shown[0]).key
        keycloak.signed = lambda said: jwt.encode(said, secret, "HS256", {"kid": "everybody's"})
        is_refused(signed_in(client), page, 403, "ID token: InvalidAlgorithmError")
        keycloak.signed = lambda said: keycloak.sign(said)[:-8] + "AAAAAAAA"
        is_refused(signed_in(client), page, 403, "ID token: InvalidSignatureError")
        keycloak.signed = lambda said: "no token at all"
        is_refused(signed_in(client), page, 403, "ID token: DecodeError")
        keycloak.token = b'{"id_token": "\\ud83d"}'
        is_refused(signed_in(client), page, 403, "ID token: UnicodeEncodeError")


def test_a_key_that_nobody_shows_is_none_and_a_rotated_one_is_known_at_once(page: Server, keycloak: Provider) -> None:
    with page.client() as client:
        assert signed_in(client).status_code == 303
        shown = keycloak.keys
        keycloak.signed = lambda said: Provider(1, {"unknown": new_key()}).sign(said)
        is_refused(signed_in(client), page, 403, "a key that the provider does not show")
        keycloak.signed = None
        keycloak.rotate()
        assert signed_in(client).status_code == 303
        [revoked] = shown.items()
        keycloak.signed = lambda said: Provider(1, dict([revoked])).sign(said)
        is_refused(signed_in(client), page, 403, "a key that the provider does not show")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Service unavailable</html>",
        b"[]",
        b"{}",
        b'{"id_token": 7}',
        b'{"error": 7}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"error": "too_long"}' + b" " * MAX_ANSWER_BYTES,
    ],
)
def test_a_token_endpoint_that_answers_garbage_signs_nobody_in(page: Server, keycloak: Provider, body: bytes) -> None:
    keycloak.token = body
    with page.client() as client:
        is_refused(signed_in(client), page, 502, "the token: 200")


def test_a_refusal_of_the_provider_is_told_by_its_code_only(page: Server, keycloak: Provider) -> None:
    keycloak.refuses = "access_denied"
    with page.client() as client:
        said = signed_in(client)
        is_refused(said, page, 403, "refused: access_denied")
        assert "0900" not in said.text
        keycloak.refuses = "call 0900"
        is_refused(signed_in(client), page, 403, "refused: no known reason")


@pytest.mark.parametrize(
    ("configured", "detail"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"token_endpoint": "http://ward.example/token"}, "no encrypted addresses"),
        ({"jwks_uri": "file:///etc/passwd"}, "no encrypted addresses"),
        ({"jwks_uri": "https://ward.example:x/keys"}, "no encrypted addresses"),
        ({"authorization_endpoint": None}, "no encrypted addresses"),
    ],
)
def test_a_configuration_that_is_wrong_sends_nobody_anywhere(
    page: Server, keycloak: Provider, configured: dict[str, Any], detail: str
) -> None:
    keycloak.configured = configured
    with page.client() as client:
        is_refused(client.get("/login/openid"), page, 502, detail)


def test_a_provider_that_is_slow_is_not_waited_for_without_end(page: Server, keycloak: Provider) -> None:
    assert page.site.open_id is not None
    with page.client() as client:
        link = returned(client)
        page.site.open_id.patience_s = SHORT_S
        keycloak.delay_s = 20
        is_refused(client.get(link), page, 502, "no answer")
        is_refused(client.get("/login/openid"), page, 502, "no answer")
        # Each byte comes in time, and the answer never.
        keycloak.delay_s, keycloak.drips = 0.0, True
        is_refused(client.get("/login/openid"), page, 502, "no answer: TimeoutError")


def test_a_flood_of_sign_ins_is_refused_and_only_its_number_is_written_down(
    page: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with page.client() as client:
        link = returned(client)
        before = page.site.audit.rows(1)
        with monkeypatch.context() as flood:
            flood.setattr(page.site.open_id, "turns", Turns(0, 0))
            for said in (client.get("/login/openid"), client.get(link)):
                assert said.status_code == 429
                assert "Too many people sign in" in said.text
        assert page.site.audit.rows(1) == before
        page.site.audit.settle()
        assert page.site.audit.rows(1)[0].detail == "2 turned away, since too many signed in"
        # The browser may load the same address again.
        assert client.get(link).status_code == 303


def test_a_provider_that_is_down_is_told_of_and_passwords_still_open_the_page(
    page: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    settings = Settings(
        home=tmp_path_factory.mktemp("page"),
        hub_port=1,
        page_port=free_port(),
        oidc_issuer=gone,
        oidc_client_id=CLIENT,
        _env_file=None,
    )
    with served(settings) as server:
        with server.client() as client:
            is_refused(client.get("/login/openid"), server, 502, "no answer: ConnectError")
        assert server.signed_in("nora")


def test_a_client_without_its_secret_says_so_to_administrators(page: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with page.client() as client:
        monkeypatch.delenv("OIDC_CLIENT_SECRET")
        is_refused(signed_in(client), page, 502, "PULSELAKE_OIDC_SECRET")
        monkeypatch.setenv("OIDC_CLIENT_SECRET", "another one")
        is_refused(signed_in(client), page, 403, "refused: invalid_client")


def test_who_is_bound_to_no_account_or_a_disabled_one_does_not_come_in(page: Server, keycloak: Provider) -> None:
    keycloak.changed = lambda said: said | {"sub": "<b>stranger</b>"}
    with page.client() as client:
        said = signed_in(client)
        is_refused(said, page, 403, "no account is bound to <b>stranger</b>")
        assert "&lt;b&gt;stranger" in said.text
        page.site.users.add(
            User("dora", Role.ANALYST, Scope(), identity=Identity(keycloak.issuer, "<b>stranger</b>")), None
        )
        assert signed_in(client).status_code == 303
        dora = page.site.users.get("dora")
        assert dora is not None
        assert not dora.has_password
        page.site.users.change(User("dora", Role.ANALYST, Scope(), is_disabled=True))
        assert client.get("/").status_code == 401
        said = signed_in(client)
        assert said.status_code == 403
        assert "disabled" in said.text
        assert last_row(page) == ("dora", "login refused", "disabled")


def test_the_same_name_at_another_provider_is_somebody_else(page: Server) -> None:
    assert page.site.users.of(Identity("https://another.example", SUBJECT)) is None


def only(keycloak: Provider, tmp_path_factory: pytest.TempPathFactory, **more: Any) -> Settings:
    return Settings(
        home=tmp_path_factory.mktemp("page"),
        hub_port=1,
        page_port=free_port(),
        oidc_issuer=keycloak.issuer,
        oidc_client_id=CLIENT,
        _env_file=None,
        **more,
    )


def test_an_email_counts_only_if_it_is_verified(
    keycloak: Provider, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_CLIENT_SECRET", SECRET)
    with served(only(keycloak, tmp_path_factory, oidc_claim="email")) as server, server.client() as client:
        server.site.users.bind("nora", Identity(keycloak.issuer, "nora@ward.example"))
        mail: dict[str, Any] = {"email": "nora@ward.example"}
        for verified in ({"email_verified": False}, {"email_verified": "true"}, {}):
            keycloak.changed = partial(operator.or_, mail | verified)
            is_refused(signed_in(client), server, 403, "not verified")
        keycloak.changed = lambda said: said | mail | {"email_verified": True}
        assert signed_in(client).status_code == 303


def test_passwords_can_be_switched_off(
    keycloak: Provider, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_CLIENT_SECRET", SECRET)
    with served(only(keycloak, tmp_path_factory, page_passwords=False)) as server, server.client() as client:
        server.site.users.bind("nora", Identity(keycloak.issuer, SUBJECT))
        assert 'type="password"' not in client.get("/login").text
        said = client.post("/login", data={"name": "nora", "password": PASSWORD}, headers=OWN)
        assert said.status_code == 403
        assert COOKIE not in said.cookies
        assert last_row(server) == ("-", "login refused", "passwords are off")
        assert signed_in(client).status_code == 303
        account = client.get("/account").text
        assert 'type="password"' not in account
        sent = {"do": "password", "old": PASSWORD, "new": "x" * 20, "again": "x" * 20, "csrf": token(client)}
        assert client.post("/account", data=sent, headers=OWN).status_code == 400
        assert server.site.users.sign_in("nora", PASSWORD) is not None


def test_without_a_provider_there_is_nothing_of_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(home=tmp_path_factory.mktemp("page"), hub_port=1, page_port=free_port(), _env_file=None)
    with served(settings) as server, server.client() as client:
        assert "organisation" not in client.get("/login").text
        assert client.get("/login/openid").status_code == 404
        assert client.get("/login/openid/done?code=x&state=y").status_code == 404


def test_behind_a_proxy_the_cookies_are_for_tls_and_this_host_only(
    keycloak: Provider, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_CLIENT_SECRET", SECRET)
    settings = only(keycloak, tmp_path_factory, page_origin="https://ward.example.org")
    # What a proxy passes on, and the cookies that a browser would send by TLS only.
    passed = {"host": "ward.example.org", "x-forwarded-proto": "http"}
    with served(settings) as server, server.client() as client:
        server.site.users.bind("nora", Identity(keycloak.issuer, SUBJECT))
        begun = client.get("/login/openid", headers=passed)
        assert parse_qs(urlsplit(begun.headers["location"]).query)["redirect_uri"] == [
            "https://ward.example.org/login/openid/done"
        ]
        link = urlsplit(httpx.get(begun.headers["location"], timeout=300).headers["location"])
        kept = begun.headers["set-cookie"].partition(";")[0]
        done = client.get(f"{link.path}?{link.query}", headers=passed | {"cookie": kept})
        form = {"name": "wera", "password": PASSWORD}
        by_password = httpx.post(f"{server.address}/login", data=form, headers=OWN | passed, timeout=300)
        [session] = [each for each in by_password.headers.get_list("set-cookie") if COOKIE in each]
        session = session.partition(";")[0]
        assert client.get("/", headers=passed | {"cookie": session}).status_code == 200
        # Another server of the domain can set this one, and not the other.
        planted = session.removeprefix("__Host-")
        assert client.get("/", headers=passed | {"cookie": planted}).status_code == 401
        sent = {"csrf": ""}
        out = client.post("/logout", data=sent, headers=OWN | passed | {"origin": "https://ward.example.org"})
    assert (done.status_code, by_password.status_code, out.status_code) == (303, 303, 303)
    cookies = [each for said in (begun, done, by_password, out) for each in said.headers.get_list("set-cookie")]
    assert len(cookies) == 7
    for cookie in cookies:
        assert cookie.startswith("__Host-")
        assert {"Secure", "HttpOnly", "Path=/"} <= {each.strip() for each in cookie.split(";")}
        assert "domain" not in cookie.lower()


def test_an_administrator_binds_accounts_each_to_somebody_else(page: Server, keycloak: Provider) -> None:
    with page.client("adam") as adam:
        form = {"do": "add", "name": "erik", "subject": "erik's id", "role": "analyst", "zone": "UTC"}
        assert adam.post("/admin", data=form | {"csrf": token(adam, "/admin")}, headers=OWN).status_code == 303
        taken = {"do": "bind", "name": "carl", "subject": "erik's id", "csrf": token(adam, "/admin")}
        said = adam.post("/admin", data=taken, headers=OWN)
        assert said.status_code == 400
        assert "bound to the account" in said.text
        keycloak.changed = lambda claims: claims | {"sub": "erik's id"}
        with page.client() as erik:
            assert signed_in(erik).status_code == 303
            freed = {"do": "bind", "name": "erik", "subject": "", "csrf": token(adam, "/admin")}
            assert adam.post("/admin", data=freed, headers=OWN).status_code == 303
            assert erik.get("/alarms").status_code == 401
            is_refused(signed_in(erik), page, 403, "no account is bound")
        for form in ({"do": "add", "name": "fay", "role": "analyst"}, {"do": "bind", "name": "nobody", "subject": "x"}):
            assert adam.post("/admin", data=form | {"csrf": token(adam, "/admin")}, headers=OWN).status_code == 400
    assert ("adam", "change sign-in", "erik") in page.done()


@pytest.mark.slow
def test_a_browser_signs_in_twice_at_another_site(page: Server, keycloak: Provider) -> None:
    with chromium() as browser, tab(browser, page.address, f"http://localhost:{keycloak.port}") as nora:
        for _ in range(2):
            nora.goto("/alarms?days=7")
            expect(nora).to_have_title("Sign in · Pulselake")
            found = Axe().run(nora, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
            assert found.response["violations"] == []
            # From now on the page's service worker is between.
            nora.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
            nora.get_by_role("link", name="Sign in with your organisation's account").click()
            nora.wait_for_url("**/alarms?days=7")
            expect(nora.get_by_role("link", name="nora, clinician")).to_be_visible()
            nora.get_by_role("button", name="Sign out").click()
            expect(nora).to_have_title("Sign in · Pulselake")
        keycloak.refuses = "access_denied"
        nora.get_by_role("link", name="Sign in with your organisation's account").click()
        expect(nora.get_by_role("alert")).to_contain_text("refused at localhost")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"oidc_issuer": "http://ward.example"}, "oidc_issuer"),
        ({"oidc_issuer": "https://id.example"}, "PULSELAKE_OIDC_CLIENT_ID must be set"),
        ({"page_passwords": False}, "nobody could sign in"),
        ({"oidc_secret": "the secret itself!"}, "oidc_secret"),
        ({"oidc_scope": "profile"}, "oidc_scope"),
        ({"oidc_claim": "preferred_username"}, "oidc_claim"),
    ],
)
def test_settings_by_which_nobody_is_safe_or_comes_in_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        Settings(**given, _env_file=None)
    assert "the secret itself" not in str(refused.value)
