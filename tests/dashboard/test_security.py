"""What attackers try: forged forms, others' sessions, odd parameters, scripts in data, guessed passwords."""

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from dashboard.app import MAX_BODY_BYTES, without_text
from dashboard.pages import COOKIE
from dashboard.site import CONTRACTS_WITH_ALARMS, Site
from orchestration.alarms import contracts_with_alarms
from resources.settings import Settings
from tests.dashboard.serving import running
from tests.dashboard.test_board import glucose, transition
from tests.dashboard.world import PASSWORD, SCRIPT, free_port, now

pytestmark = pytest.mark.service

OWN = {"sec-fetch-site": "same-origin"}
ALARM_OF_OTHER, ALARM_OF_OWN = "a" * 16, "b" * 16


@dataclass
class Server:
    """A server of the real application, without its threads that follow hubs."""

    port: int
    site: Site
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, name: str = "") -> httpx.Client:
        """Somebody's browser, signed in if a name is given."""
        client = httpx.Client(base_url=self.address, headers={"origin": self.address}, timeout=300)
        if name and name not in self.cookies:
            self.cookies[name] = self.signed_in(name)
        if name:
            client.cookies.set(COOKIE, self.cookies[name])
        return client

    def signed_in(self, name: str) -> str:
        """The cookie of a new session."""
        form = {"name": name, "password": PASSWORD, "next": ""}
        said = httpx.post(f"{self.address}/login", data=form, headers=OWN | {"origin": self.address}, timeout=300)
        assert said.status_code == 303, said.text
        return said.cookies[COOKIE]

    def done(self) -> list[tuple[str, str, str]]:
        """Who did what to whom, by the audit trail."""
        return [(row.who, row.what, row.subject) for row in self.site.audit.rows(10_000)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("page")
    settings = Settings(home=folder, hub_port=1, page_port=free_port(), _env_file=None)
    with served(settings) as made:
        board = made.site.board
        board.take_glucose(glucose((1, 0, 50), (2, 0, 60), (3, 0, 70)))
        board.take_alarms([transition(0, alarm_id=ALARM_OF_OWN), transition(0, alarm_id=ALARM_OF_OTHER, entity=2)], {})
        yield made


@contextmanager
def served(settings: Settings) -> Iterator[Server]:
    """A server with patients and an account of each role."""
    with running(settings) as site:
        yield Server(settings.page_port, site)


def token(client: httpx.Client, path: str = "/") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


PAGES = ("/", "/alarms", "/alarms/past.csv", "/admin", "/admin/audit", "/admin/audit.csv")


@pytest.mark.parametrize("path", [*PAGES, "/live", "/live/snapshot", "/session"])
def test_who_is_not_signed_in_sees_nothing(server: Server, path: str) -> None:
    with server.client() as client:
        page = client.get(path)
        assert page.status_code in (303, 401)
        assert "Silva" not in page.text
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"cookie": f"{COOKIE}={'x' * 43}"}).status_code in (303, 401)


OPEN = {
    "nora": {"/", "/alarms", "/alarms/past.csv"},
    "carl": {"/", "/alarms", "/alarms/past.csv"},
    "alan": {"/", "/alarms", "/alarms/past.csv"},
    "sofia": set[str](),
    "adam": {"/admin", "/admin/audit", "/admin/audit.csv"},
}


@pytest.mark.parametrize("name", OPEN)
def test_each_role_opens_its_pages_and_no_others(server: Server, name: str) -> None:
    with server.client(name) as client:
        assert {path for path in PAGES if client.get(path).status_code == 200} == OPEN[name]
        assert {client.get(path).status_code for path in PAGES if path not in OPEN[name]} <= {403}
        assert client.get("/live/snapshot").status_code == (200 if "/" in OPEN[name] else 403)


@pytest.mark.parametrize(
    ("headers", "has_token"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_a_forged_form_does_nothing(server: Server, headers: dict[str, str], has_token: bool) -> None:
    with server.client("nora") as client:
        form = {"action": "acknowledge", "alarm": f"{ALARM_OF_OWN}:0"}
        if has_token:
            form["csrf"] = token(client)
        said = client.post("/alarms/act", data=form, headers=headers)
        assert said.status_code == 403
        alarm = server.site.board.alarm(ALARM_OF_OWN)
        assert alarm is not None
        assert alarm.pending is None


def test_the_token_of_another_session_is_none(server: Server) -> None:
    with server.client("nora") as nora, server.client("carl") as carl:
        form = {"action": "acknowledge", "alarm": f"{ALARM_OF_OWN}:0", "csrf": token(nora)}
        assert carl.post("/alarms/act", data=form, headers=OWN).status_code == 403


def test_a_form_without_a_page_of_ours_signs_nobody_in(server: Server) -> None:
    with httpx.Client(base_url=server.address) as client:
        form = {"name": "nora", "password": PASSWORD}
        assert client.post("/login", data=form).status_code == 403
        assert client.post("/login", data=form, headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_another_name_of_the_server_is_refused(server: Server) -> None:
    with server.client() as client:
        assert client.get("/login", headers={"host": "evil.example"}).status_code == 421


def test_a_body_that_is_too_large_is_not_read(server: Server) -> None:
    with server.client("nora") as client:
        assert client.post("/alarms/act", content=b"x" * (MAX_BODY_BYTES + 1), headers=OWN).status_code == 413
        chunks = (b"x" for _ in range(10))
        assert client.post("/alarms/act", content=chunks, headers=OWN).status_code == 413


@pytest.mark.parametrize("encoding", ["utf-8", "utf-7", "punycode"])
def test_a_form_of_a_kind_that_no_page_sends_is_refused(server: Server, encoding: str) -> None:
    parts = "".join(
        f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"name": "+2AA-", "password": "x"}.items()
    )
    kind = {"content-type": f"multipart/form-data; boundary=x; charset={encoding}"}
    with server.client() as client:
        assert client.post("/login", content=f"{parts}--x--\r\n", headers=OWN | kind).status_code == 415


def test_another_patient_is_not_found_and_that_somebody_tried_is_noted(server: Server) -> None:
    with server.client("carl") as carl:
        assert carl.get("/alarms?patient=1").status_code == 200
        for path in ("/alarms?patient=2", "/alarms/past.csv?patient=2", "/alarms/past.parquet?patient=99"):
            assert carl.get(path).status_code == 404
        form = {"action": "acknowledge", "alarm": f"{ALARM_OF_OTHER}:0", "csrf": token(carl)}
        assert carl.post("/alarms/act", data=form, headers=OWN).status_code == 404
        snapshot = carl.get("/live/snapshot").json()
    assert [*snapshot["people"]] == ["1"]
    assert {row["key"] for row in snapshot["rows"]} == {"1"}
    assert ("carl", "denied", "2") in server.done()
    assert ("carl", "acknowledge", "2") not in server.done()


@pytest.mark.parametrize(
    "path",
    [
        "/alarms?days=1000000",
        "/alarms?days=1%20OR%201=1",
        "/alarms?severity=%3Cscript%3E",
        "/alarms?cause=x'%20UNION%20SELECT",
        "/alarms?patient=1;DROP%20TABLE%20users",
        "/alarms?patient=%00",
        "/alarms?patient=٣",
        "/alarms?patient=99999999999999999999999",
        "/alarms/past.exe",
        "/alarms/past.csv/../../../etc/passwd",
        "/static/../access.py",
        "/static/..%2f..%2faccess.py",
        "/static/%2e%2e/%2e%2e/page.db",
        "/nowhere",
    ],
)
def test_odd_parameters_get_a_plain_answer(server: Server, path: str) -> None:
    with server.client("nora") as client:
        said = client.get(path)
        assert said.status_code in (400, 404)
        assert "Traceback" not in said.text
        assert "scrypt" not in said.text


@pytest.mark.parametrize("query", ["who=x' OR '1'='1", "subject=%25", 'what=x"; DROP TABLE audit; --', "before=0"])
def test_filters_of_the_audit_trail_are_values_and_no_sql(server: Server, query: str) -> None:
    with server.client("adam") as client:
        assert client.get(f"/admin/audit?{query}").status_code == 200
        assert client.get("/admin/audit?before=-1").status_code == 400
    assert server.done()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"action": "dance"}, 400),
        ({"action": "snooze", "minutes": "481"}, 400),
        ({"action": "snooze", "minutes": "-5"}, 400),
        ({"action": "snooze"}, 400),
        ({"action": "comment", "note": "  "}, 400),
        ({"action": "acknowledge", "note": "x" * 2001}, 400),
        ({"action": "acknowledge", "alarm": ALARM_OF_OWN}, 400),
        ({"action": "acknowledge", "alarm": "../../x:0"}, 404),
        ({"action": "acknowledge", "alarm": [f"{ALARM_OF_OWN}:0"] * 501}, 400),
    ],
)
def test_an_action_that_is_wrong_does_nothing(server: Server, form: dict[str, object], status: int) -> None:
    with server.client("nora") as client:
        sent = {"alarm": f"{ALARM_OF_OWN}:0", "csrf": token(client)} | form
        said = client.post("/alarms/act", data=sent, headers=OWN)
        assert said.status_code == status, said.text
        assert said.json()["error"]


def test_an_alarm_that_became_worse_is_not_acknowledged_by_who_did_not_see_it(server: Server) -> None:
    server.site.board.take_alarms([transition(3, "worsened", alarm_id="c" * 16, cause="glucose_high")], {})
    with server.client("nora") as client:
        form = {"action": "acknowledge", "alarm": f"{'c' * 16}:2", "csrf": token(client)}
        said = client.post("/alarms/act", data=form, headers=OWN)
    assert said.status_code == 409
    assert "became worse" in said.json()["error"]


def test_an_action_whose_hub_is_away_says_so_and_is_pending_no_more(server: Server) -> None:
    with server.client("nora") as client:
        form = {"action": "acknowledge", "alarm": f"{ALARM_OF_OWN}:0", "csrf": token(client)}
        said = client.post("/alarms/act", data=form, headers=OWN)
    assert said.status_code == 503
    alarm = server.site.board.alarm(ALARM_OF_OWN)
    assert alarm is not None
    assert alarm.pending is None
    assert ("nora", "acknowledge", "1") not in server.done()


def test_scripts_in_data_stay_texts(server: Server) -> None:
    with server.client("adam") as client:
        client.post(
            "/admin",
            data={
                "do": "add",
                "name": "mallory",
                "password": PASSWORD,
                "role": "analyst",
                "groups": SCRIPT,
                "csrf": token(client, "/admin"),
            },
            headers=OWN,
        )
        page = client.get("/admin").text
    assert "<script>document" not in page
    assert "&lt;script&gt;document" in page
    with server.client() as client:
        said = client.post("/login", data={"name": SCRIPT, "password": "x", "next": SCRIPT}, headers=OWN)
    assert "<script>document" not in said.text


def test_guessing_is_locked_out_and_told_alike_for_every_name(server: Server) -> None:
    answers = {}
    for name in ("sofia", "nobody-of-that-name"):
        with server.client() as client:
            said = [client.post("/login", data={"name": name, "password": "x"}, headers=OWN) for _ in range(6)]
        answers[name] = [(each.status_code, each.text.replace(name, "")) for each in said[:5]]
        assert [each.status_code for each in said] == [401] * 5 + [429]
    assert answers["sofia"] == answers["nobody-of-that-name"]
    assert ("sofia", "login failed", "") in server.done()
    assert not any("nobody-of-that-name" in each for row in server.done() for each in row)


def test_guessers_leave_the_threads_of_pages_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.client("wera").close()
    may_end = threading.Event()
    monkeypatch.setattr("dashboard.users.is_right", lambda *_: not may_end.wait(300))

    def guess(number: int) -> int:
        form = {"name": f"guess-{number}", "password": "x"}
        return httpx.post(f"{server.address}/login", data=form, headers=OWN, timeout=300).status_code

    # More than there are threads.
    with server.client("wera") as client, ThreadPoolExecutor(60) as pool:
        guesses = pool.map(guess, range(60))
        try:
            while not server.site.signing_in.is_busy():
                time.sleep(0.01)
            said = client.post("/login", data={"name": "wera", "password": PASSWORD, "next": "/alarms"}, headers=OWN)
            assert said.status_code == 429
            assert "Too many people sign in" in said.text
            assert 'value="/alarms"' in said.text
            assert {client.get("/", timeout=20).status_code for _ in range(20)} == {200}
        finally:
            may_end.set()
        # The others may come before or after those that waited.
        assert {*guesses} <= {401, 429}
        assert not server.site.signing_in.is_busy()


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "/\n/evil", "evil"])
def test_signing_in_leads_nowhere_else(server: Server, target: str) -> None:
    with server.client() as client:
        form = {"name": "wera", "password": PASSWORD, "next": target}
        assert client.post("/login", data=form, headers=OWN).headers["location"] == "/"
        form["next"] = "/alarms?days=7"
        assert client.post("/login", data=form, headers=OWN).headers["location"] == "/alarms?days=7"


def test_a_session_is_over_after_signing_out_and_its_cookie_opens_nothing(server: Server) -> None:
    with server.client() as client:
        cookie = server.signed_in("wera")
        client.cookies.set(COOKIE, cookie)
        assert client.post("/logout", data={"csrf": token(client)}, headers=OWN).status_code == 303
    with httpx.Client(base_url=server.address, cookies={COOKIE: cookie}) as thief:
        assert thief.get("/").status_code == 401
        assert thief.get("/live").status_code == 401


def test_every_answer_says_what_browsers_may_do(server: Server) -> None:
    with server.client("wera") as client:
        for path in ("/", "/login", "/alarms", "/nowhere", "/live/snapshot", "/session"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        page = client.get("/").text
        for inline in (r"<script(?![^>]*\bsrc=)", r"\son\w+=", r"\sstyle=", r"<style"):
            assert not re.search(inline, page), inline
    form = {"name": "wera", "password": PASSWORD}
    said = httpx.post(f"{server.address}/login", data=form, headers=OWN | {"origin": server.address}, timeout=300)
    assert {"HttpOnly", "SameSite=lax"} <= {each.strip() for each in said.headers["set-cookie"].split(";")}


def test_a_page_that_fails_says_what_browsers_may_do_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("glucose 47 of Ana Silva")

    monkeypatch.setattr(server.site.users, "all", broken)
    with server.client("adam") as client:
        said = client.get("/admin", headers={"accept": "text/html"})
    assert said.status_code == 500
    assert "Silva" not in said.text
    assert "default-src 'none'" in said.headers["content-security-policy"]
    assert said.headers["cache-control"] == "no-store"


def test_an_administrator_gives_and_takes_rights(server: Server) -> None:
    with server.client("adam") as adam:
        form = {"do": "add", "name": "dana", "password": PASSWORD, "role": "caregiver", "patients": "2", "zone": "UTC"}
        sent = adam.post("/admin", data=form | {"csrf": token(adam, "/admin")}, headers=OWN)
        assert sent.status_code == 303
        with server.client("dana") as dana:
            assert [*dana.get("/live/snapshot").json()["people"]] == ["2"]
            rights = {"do": "rights", "name": "dana", "role": "caregiver", "patients": "3"}
            adam.post("/admin", data=rights | {"csrf": token(adam, "/admin")}, headers=OWN)
            assert [*dana.get("/live/snapshot").json()["people"]] == ["3"]
            adam.post("/admin", data={"do": "disable", "name": "dana", "csrf": token(adam, "/admin")}, headers=OWN)
            assert dana.get("/live/snapshot").status_code == 401
        for wrong in (
            {"role": "king"},
            {"patients": "x"},
            {"patients": "9" * 19},
            {"zone": "Mars/Base"},
            {"do": "dance"},
            {"name": "adam2"},
        ):
            form = {"do": "rights", "name": "dana", "role": "analyst"} | wrong
            assert adam.post("/admin", data=form | {"csrf": token(adam, "/admin")}, headers=OWN).status_code == 400
    done = server.done()
    for row in (("adam", "add account", "dana"), ("adam", "change rights", "dana"), ("dana", "login", "")):
        assert row in done


def test_the_analyst_gets_no_names_in_pages_and_files(server: Server) -> None:
    with server.client("alan") as client:
        assert "actor" not in client.get("/alarms/past.csv?days=30").text
        assert "Ana Silva" not in client.get("/live/snapshot").text
        assert "Ana Silva" not in client.get("/alarms?days=30").text


def test_who_looks_at_the_live_board_is_noted_once_with_whom_they_see(server: Server) -> None:
    for name, whom in (("wera", "all patients"), ("carl", "1 patient")):
        with server.client(name) as client, client.stream("GET", "/live") as stream:
            assert next(stream.iter_lines()) == "event: snapshot"
        [row] = server.site.audit.rows(1, who=name, what="view live")
        assert row.detail == f"stream, {whom}"
    with server.client("carl") as client:
        client.get("/live/snapshot")
    assert server.site.audit.rows(1, who="carl", what="view live")[0].detail == "snapshot, 1 patient"
    with server.client("sofia") as client:
        assert client.get("/live").status_code == 403
    assert ("sofia", "denied", "/live") in server.done()


def test_a_download_is_noted_with_what_was_in_it(server: Server) -> None:
    with server.client("wera") as client:
        said = client.get("/alarms/past.csv?days=7")
    assert said.headers["content-disposition"] == 'attachment; filename="alarms.csv"'
    [row] = server.site.audit.rows(1, who="wera", what="download")
    assert row.detail == "alarms.csv, 0 rows"
    assert (now() - row.at).total_seconds() < 60


def test_the_page_knows_the_alarms_of_all_streams() -> None:
    assert {each.stream for each in CONTRACTS_WITH_ALARMS} == {each.stream for each in contracts_with_alarms()}


def test_the_server_loads_neither_dagster_nor_duckdb() -> None:
    command = "import sys, dashboard.__main__; print({'dagster', 'duckdb'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "set()"


def test_an_error_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("a server's")
    log.addFilter(without_text)
    try:
        raise ValueError("glucose 47 of Ana Silva")
    except ValueError as error:
        log.error("Exception in ASGI application %s", error, exc_info=error)
    assert "A request failed." in caplog.text
    assert "Silva" not in caplog.text
