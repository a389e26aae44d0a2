"""Somebody's own account, and that nobody can keep them out of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from dashboard import access
from dashboard.attempts import FREE_ATTEMPTS
from dashboard.database import page_database
from dashboard.pages import COOKIE
from resources.settings import Settings
from tests.dashboard.browser import sign_in, tab
from tests.dashboard.test_security import OWN, Server, served, token
from tests.dashboard.world import PASSWORD, free_port
from tests.services.chromium import chromium

pytestmark = pytest.mark.service

ANOTHER = "another five words altogether"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # Hashes that take no time: what they cost is looked at elsewhere.
    monkeypatch.setattr(access, "_COST", 2)
    settings = Settings(home=tmp_path_factory.mktemp("page"), hub_port=1, page_port=free_port(), _env_file=None)
    with served(settings) as made:
        yield made


def rows(server: Server, name: str) -> list[tuple[str, str]]:
    return [(row.what, row.detail) for row in server.site.audit.rows(who=name)]


def test_whoever_changes_the_password_stays_and_all_other_sessions_end(server: Server) -> None:
    with server.client("nora") as nora, server.client() as elsewhere:
        before = nora.cookies[COOKIE]
        elsewhere.cookies.set(COOKIE, server.signed_in("nora"))
        form = {"do": "password", "old": PASSWORD, "new": ANOTHER, "again": ANOTHER, "csrf": token(nora)}
        said = nora.post("/account", data=form, headers=OWN)
        assert (said.status_code, said.headers["location"]) == (303, "/account?done=password")
        assert elsewhere.get("/account").status_code == 401
        nora.cookies.delete(COOKIE)
        for cookie, status in ((before, 401), (said.cookies[COOKIE], 200)):
            assert nora.get("/account", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == status
    assert rows(server, "nora")[0] == ("change password", "")
    assert server.site.users.sign_in("nora", PASSWORD) is None
    assert server.site.users.sign_in("nora", ANOTHER) is not None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"old": "a wrong password"}, "another one"),
        ({"old": ""}, "another one"),
        ({"new": "short", "again": "short"}, "12 to 200"),
        ({"new": "x" * 201, "again": "x" * 201}, "12 to 200"),
        ({"again": "another six words altogether"}, "the same both times"),
        ({"do": "dance"}, "nothing was changed"),
    ],
)
def test_a_password_that_may_not_be_changes_nothing(server: Server, changed: dict[str, str], said: str) -> None:
    with server.client("nora") as nora:
        form = {"do": "password", "old": PASSWORD, "new": ANOTHER, "again": ANOTHER, "csrf": token(nora)}
        answer = nora.post("/account", data=form | changed, headers=OWN)
        assert answer.status_code == 400
        assert said in answer.text
        assert ANOTHER not in answer.text
        assert nora.get("/account").status_code == 200
    assert server.site.users.sign_in("nora", PASSWORD) is not None


def test_a_flood_of_failed_sign_ins_costs_two_rows_a_minute(server: Server) -> None:
    count, form = 40, {"name": "nobody at all", "password": "a wrong password"}
    with server.client() as stranger:
        said = [stranger.post("/login", data=form, headers=OWN).status_code for _ in range(count)]
    assert said == [401] * FREE_ATTEMPTS + [429] * (count - FREE_ATTEMPTS)
    told = [("login refused", "locked"), ("login failed", "")]
    assert rows(server, "-") == told
    database = page_database(server.site.settings.root)
    counted = {row["what"]: row["count"] for row in database.rows("SELECT what, count FROM failures")}
    database.close()
    assert counted == {"login failed": FREE_ATTEMPTS - 1, "login refused": count - FREE_ATTEMPTS - 1}


def test_an_open_session_is_no_place_to_guess_the_password(server: Server) -> None:
    with server.client("nora") as nora:
        form = {"do": "password", "old": "wrong", "new": ANOTHER, "again": ANOTHER, "csrf": token(nora)}
        said = [nora.post("/account", data=form, headers=OWN).status_code for _ in range(FREE_ATTEMPTS + 1)]
    assert said == [400] * FREE_ATTEMPTS + [429]
    assert rows(server, "nora")[0] == ("change password refused", "locked")
    assert rows(server, "nora")[1] == ("change password refused", "the old one was wrong")


def test_unit_and_zone_are_everybodys_own_and_rights_are_not(server: Server) -> None:
    with server.client("carl") as carl:
        form = {"do": "show", "unit": "mg/dL", "zone": "America/Lima", "csrf": token(carl, "/account")}
        more = {"role": "administrator", "everyone": "1", "name": "nora"}
        assert carl.post("/account", data=form | more, headers=OWN).status_code == 303
        page = carl.get("/account?done=show").text
        assert "Times are of America/Lima. Glucose is in mg/dL." in page
        for wrong in ({"unit": "g/L"}, {"zone": "Mars/Base"}, {"zone": ""}, {"zone": "../../etc/passwd"}):
            assert carl.post("/account", data=form | wrong, headers=OWN).status_code == 400
    users = {user.name: user for user in server.site.users.all()}
    assert (users["carl"].role, users["carl"].scope.told) == ("caregiver", "patient 1")
    assert users["nora"].zone == "Europe/Lisbon"
    assert rows(server, "carl").count(("change unit and zone", "mg/dL, America/Lima")) == 1


def test_a_forged_form_changes_nothing_and_nobody_is_left_out(server: Server) -> None:
    form = {"do": "show", "unit": "mg/dL", "zone": "America/Lima"}
    for name in ("nora", "alan", "sofia", "adam"):
        with server.client(name) as client:
            assert client.get("/account").status_code == 200
            assert client.post("/account", data=form, headers=OWN).status_code == 403
            sent = form | {"csrf": token(client, "/account")}
            assert client.post("/account", data=sent, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert "America/Lima" not in {user.zone for user in server.site.users.all()}
    with server.client() as nobody:
        assert nobody.get("/account").status_code == 401


def test_who_guesses_keeps_nobody_out_of_the_own_browser(server: Server) -> None:
    with server.client() as nora, server.client() as guesser:
        right, wrong = ({"name": "nora", "password": each} for each in (PASSWORD, "a wrong password"))
        assert nora.post("/login", data=right, headers=OWN).status_code == 303
        said = [guesser.post("/login", data=wrong, headers=OWN).status_code for _ in range(FREE_ATTEMPTS + 1)]
        assert said == [401] * FREE_ATTEMPTS + [429]
        assert nora.get("/account").status_code == 200
        nora.post("/logout", data={"csrf": token(nora)}, headers=OWN)
        assert nora.get("/account").status_code == 401
        assert nora.post("/login", data=right, headers=OWN).status_code == 303
        assert guesser.post("/login", data=right, headers=OWN).status_code == 429


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_account_is_accessible_on_a_phone(server: Server, scheme: str) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    with chromium() as browser, tab(browser, server.address, **phone) as page:
        sign_in(page, "nora")
        page.get_by_role("link", name="nora, clinician").click()
        page.get_by_label("Glucose in").select_option("mmol/L")
        page.get_by_label("Time zone").fill("America/Lima")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text("changed")
        expect(page.get_by_text("Times are of America/Lima. Glucose is in mmol/L.")).to_be_visible()
        page.get_by_label("Password now").fill("a wrong password")
        page.get_by_label("New password", exact=True).fill(ANOTHER)
        page.get_by_label("New password again").fill(ANOTHER)
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_role("alert")).to_contain_text("nothing was changed")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        assert found.response["violations"] == []
        page.get_by_label("Password now").fill(PASSWORD)
        page.get_by_label("New password", exact=True).fill(ANOTHER)
        page.get_by_label("New password again").fill(ANOTHER)
        page.get_by_role("button", name="Change the password").click()
        expect(page.get_by_role("status")).to_contain_text("Your password is changed")
