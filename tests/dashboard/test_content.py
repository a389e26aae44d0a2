"""The pages of patients, rules, comparison, devices, safety and quality, on a lake in which patients have lived."""

import html
import io
import pickle
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import polars as pl
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette

from assets.adverse_events.tables import REPORTS_BY_SUBSTANCE
from assets.clinical.sources import EHR_MEDICATIONS
from assets.glucose.assets import CONTRACT
from assets.reference.rules import RuleChanges, RuleSet, Wanted
from assets.reference.tables import PATIENTS as KNOWN
from assets.reference_store import put_rules, rule_versions
from assets.stream.contract import Contract
from assets.vitals.assets import CONTRACT as VITALS
from benchmarks.lived import LONG_AGO, live
from dashboard import routes_rules
from dashboard.access import Role, Scope
from dashboard.apart import Apart
from dashboard.app import application
from dashboard.board import Pending
from dashboard.database import page_database
from dashboard.history import own_ids, worn_devices
from dashboard.patients import _newest
from dashboard.preview import preview, reach_back
from dashboard.site import CONTRACTS_WITH_ALARMS
from dashboard.users import User, Users
from orchestration.alarm_texts import rule_told
from orchestration.alarms import contracts_with_alarms
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of
from tests.dashboard.browser import sign_in, tab
from tests.dashboard.test_board import transition
from tests.dashboard.world import PASSWORD, add_quickly, free_port, now, people
from tests.services.chromium import chromium

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 28, 15, 30, tzinfo=UTC)
PATIENTS = 6
NAMED = "a note <script>document.title='taken over'</script>"
PAGES = (
    "/patients/1",
    "/patients/1?span=14d",
    "/compare?patient=1&patient=2",
    "/rules",
    "/devices",
    "/safety",
    "/quality",
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with a lake and accounts. Patients 1 and 6 are diabetic, as their group says."""
    found = Settings(home=tmp_path_factory.mktemp("lived"), page_port=free_port(), _env_file=None)
    found.root.mkdir(parents=True, exist_ok=True)
    live(lake_of(found), NOW, patients=PATIENTS, days=2, vitals=timedelta(hours=6), reports=300)
    database = page_database(found.root)
    everyone = Scope(is_everyone=True)
    add_quickly(
        Users(database, lambda: NOW),
        User("wera", Role.CLINICIAN, everyone, zone="Europe/Lisbon"),
        User("dina", Role.CLINICIAN, Scope(frozenset({"diabetic"})), "mmol/L"),
        User("carl", Role.CAREGIVER, Scope(patients=frozenset({2}))),
        User("alan", Role.ANALYST, everyone),
        User("sofia", Role.SAFETY_OFFICER, Scope()),
        User("adam", Role.ADMINISTRATOR, everyone),
    )
    database.close()
    return found


class AtHand(Apart):
    """Does here what a server has done in a process of its own, of which each would load all of the system anew.

    That these processes do it is a matter of `test_apart`, and of `test_page` where the pages are those of a server.
    What is counted of the quality of data is counted once: it takes seconds, and no test here changes what it finds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counted: dict[tuple[str, bytes], bytes] = {}

    def do(self, function: str, *given: Any, raises: tuple[type[Exception], ...] = ()) -> Any:
        module, _, name = function.partition(":")
        asked = pickle.dumps(given)
        answer = self._counted.get((function, asked))
        if answer is None:
            answer = pickle.dumps(getattr(import_module(module), name)(*pickle.loads(asked)))
            if module == "dashboard.quality":
                self._counted[function, asked] = answer
        return pickle.loads(answer)


@pytest.fixture(scope="module")
def app(settings: Settings) -> Starlette:
    """The application, which reads no hubs: what it shows of the past comes from the lake."""
    with mock.patch("dashboard.app.Apart", AtHand):
        return application(settings, lambda: NOW)


@pytest.fixture(scope="module")
def address(app: Starlette, settings: Settings) -> Iterator[str]:
    """Its server."""
    config = uvicorn.Config(app, port=settings.page_port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{settings.page_port}"
    server.should_exit = server.force_exit = True
    thread.join(300)
    assert not thread.is_alive()


class Session:
    """Somebody who is signed in."""

    def __init__(self, address: str, name: str) -> None:
        self.client = httpx.Client(base_url=address, headers={"sec-fetch-site": "same-origin"}, timeout=300)
        self.client.get("/login")
        answer = self.client.post("/login", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text[:2000]
        return answer.text

    def rows(self, path: str) -> pl.DataFrame:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return pl.read_parquet(io.BytesIO(answer.content))

    def post(self, path: str, fields: dict[str, str]) -> httpx.Response:
        return self.client.post(path, data=self.opened() | fields)

    def opened(self) -> dict[str, str]:
        """What the form of a rule has besides what is typed."""
        page = self.get("/rules")
        found = {name: re.search(f'name="{name}" value="([^"]+)"', page) for name in ("csrf", "seen")}
        return {name: html.unescape(each[1]) for name, each in found.items() if each is not None}


@pytest.fixture(scope="module")
def of(address: str) -> Any:
    """Signs in, once for each name."""
    known: dict[str, Session] = {}

    def signed_in(name: str) -> Session:
        if name not in known:
            known[name] = Session(address, name)
        return known[name]

    yield signed_in
    for each in known.values():
        each.client.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def names(settings: Settings) -> list[str]:
    return lake_of(settings).table(KNOWN.table).scan().collect()["full_name"].to_list()


def test_a_patients_page_shows_charts_alarms_and_thresholds(of, settings):
    page = of("wera").get("/patients/1?span=7d")
    for kind in ("line-chart", "agp", "tir", "daily", "vitals"):
        assert f'class="chart {kind} for-' in page, kind
    assert names(settings)[0] in page.replace("&#39;", "'")
    assert "built in: nobody has changed it" in page
    assert "times in Europe/Lisbon" in page
    assert 'aria-current="true">7d' in page


def test_a_clock_that_is_ahead_hides_no_low_on_a_patients_page():
    at = [NOW - timedelta(minutes=5), NOW - timedelta(minutes=1)]
    received = [NOW - timedelta(minutes=5), NOW - timedelta(minutes=9)]
    readings = pl.DataFrame({"measured_at": at, "received_at": received, "glucose_mg_dl": [45.0, 110.0]})
    newest = _newest(readings, NOW)
    assert newest is not None
    assert (newest["glucose_mg_dl"], newest["age"]) == (45.0, timedelta(minutes=5))


def test_open_alarms_can_be_acted_upon_as_they_were_seen(of, settings, app):
    lake = lake_of(settings)
    rows = lake.table(CONTRACT.tables["alarms"]).scan().filter(pl.col("index") >= 0).collect()
    last = rows.sort("fold", "index", "is_update").unique("alarm_id", keep="last", maintain_order=True)
    is_open = last.filter(pl.col("state") != "cleared")
    assert is_open.height
    for row in is_open.head(2).iter_rows(named=True):
        page = of("wera").get(f"/patients/{row['entity']}")
        assert f'name="alarm" value="{row["alarm_id"]}:{row["index"]}"' in page
        assert f'name="back" value="/patients/{row["entity"]}"' in page
        assert 'name="alarm"' not in of("alan").get(f"/patients/{row['entity']}")
        board = app.state.site.board
        board.take_alarms([transition(row["index"], alarm_id=row["alarm_id"], entity=row["entity"])], {})
        board.pend(row["alarm_id"], Pending("act-1", "acknowledge", "wera", 0))
        assert "acknowledge by wera: being taken up" in of("wera").get(f"/patients/{row['entity']}")
        assert "acknowledge: being taken up" in of("alan").get(f"/patients/{row['entity']}")
        board.pend(row["alarm_id"], None)


def test_an_alarm_says_why_it_was_raised_and_is_decided_again_the_same(of, settings, app):
    rows = lake_of(settings).table(CONTRACT.tables["alarms"]).scan().filter(pl.col("kind") == "raised").collect()
    low = rows.filter(pl.col("cause") == "glucose_low").row(0, named=True)
    page = of("wera").get(f"/patients/{low['entity']}/alarms/{low['alarm_id']}")
    assert f"Raised by rule {low['rule_id']}, version 1" in page
    assert "readings: the same" in page
    assert "&#34;patient_id&#34;" in page, "the raw body is shown, escaped"
    by_link = of("wera").client.get(f"/alarms/{low['alarm_id']}", follow_redirects=True)
    assert by_link.url.path == f"/patients/{low['entity']}/alarms/{low['alarm_id']}", "by the link in a message"
    assert by_link.status_code == 200
    anothers = rows.filter(pl.col("entity") == 2)["alarm_id"][0]
    of("dina").get(f"/alarms/{anothers}", status=404)
    assert (last := app.state.site.audit.rows(1)[0]).what == "denied"
    assert (last.who, last.subject) == ("dina", "2")
    of("wera").get("/alarms/ffffffffffffffff", status=404)
    other = low["entity"] % PATIENTS + 1
    of("wera").get(f"/patients/{other}/alarms/{low['alarm_id']}", status=404)
    of("wera").get(f"/patients/{low['entity']}/alarms/ffffffffffffffff", status=404)
    assert "patient_id&#34;" not in of("alan").get(f"/patients/{low['entity']}/alarms/{low['alarm_id']}")


@pytest.mark.parametrize(
    "path", ["/patients/2", "/patients/2/glucose.csv", "/patients/2/alarms/ab", "/compare?patient=2"]
)
def test_anothers_patient_is_not_there(of, path):
    of("dina").get(path, status=404)
    of("wera").get(path, status=404 if "/alarms/" in path else 200)


def test_lists_have_the_viewers_patients_only(of):
    mine = {1, 6}
    assert {*of("dina").rows("/compare/ranking.parquet")["patient_id"]} == mine
    assert {*of("dina").rows("/devices/devices.parquet")["patient_id"]} == mine
    assert {*of("wera").rows("/compare/ranking.parquet")["patient_id"]} == {*range(1, PATIENTS + 1)}
    links = {int(each) for each in re.findall(r'href="/patients/(\d+)"', of("dina").get("/devices?show=all"))}
    assert links == mine


def test_what_a_device_says_is_shown_of_its_wearer_alone(tmp_path):
    lake = Lake(str(tmp_path))
    people(lake)
    readings = pl.DataFrame({"device_id": [101, 102, 999], "measured_at": [now()] * 3})
    found = worn_devices(lake, 1, readings, now())
    assert [*found.select("device_id", "is_own").iter_rows()] == [(101, True), (102, False), (999, True)]
    assert own_ids(found) == [101, 999]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("wera", {"/patients/1", "/compare", "/rules", "/devices", "/safety"}),
        ("carl", {"/patients/2"}),
        ("alan", {"/patients/1", "/patients/2", "/compare", "/rules", "/devices", "/safety", "/quality"}),
        ("sofia", {"/safety", "/quality"}),
    ],
)
def test_pages_are_for_roles(of, name, allowed):
    for path in ("/patients/1", "/patients/2", "/compare", "/rules", "/devices", "/safety", "/quality"):
        answer = of(name).client.get(path)
        assert (answer.status_code == 200) == (path in allowed or (name == "wera" and path == "/patients/2")), path
        assert answer.status_code in (200, 403, 404)


def test_analysts_see_no_names_no_births_and_no_notes(of, settings):
    put_rules(
        lake_of(settings),
        contracts_with_alarms(),
        [Wanted("temperature_high", {"threshold": 38.2, "note": NAMED}, "patient:1")],
        valid_from=LONG_AGO,
        clock=lambda: NOW - timedelta(minutes=5),
        changed_by="nurse joy",
    )
    version = rule_versions(lake_of(settings)).filter(pl.col("rule_id") == "temperature_high")["version"][0]
    raised: dict[str, object] = {"rule_id": "temperature_high", "rule_version": version, "threshold": 38.2}
    told = [rule_told(VITALS, lake_of(settings), raised, named=named) for named in (True, False)]
    assert ["nurse joy" in each for each in told] == [True, False]
    seen = of("wera").get("/patients/1") + of("wera").get("/rules")
    assert "nurse joy" in seen
    assert "a note &lt;script&gt;" in seen
    assert "<script>document" not in seen
    pages = [
        *PAGES,
        "/devices?show=all",
        "/compare",
        "/compare/ranking.csv",
        "/rules/rules.csv",
        "/devices/devices.csv",
    ]
    pages += [f"/patients/1/{name}.csv" for name in ("glucose", "days", "vitals", "news2", "alarms", "thresholds")]
    for path in pages:
        page = of("alan").get(path)
        for hidden in (*names(settings), "born ", "nurse joy", "a note "):
            assert hidden not in page, (path, hidden)
    assert re.search(r"age: \d+ years<", of("alan").get("/patients/1"))


def test_files_have_what_the_lake_has(of, settings):
    silver = lake_of(settings).table(CONTRACT.tables.silver).scan().filter(pl.col("patient_id") == 1).collect()
    found = of("wera").rows("/patients/1/glucose.parquet")
    assert found.height == silver.height > 500
    columns = ["measured_at", "device_id", "glucose_mg_dl"]
    assert found[columns].sort(columns).equals(silver[columns].sort(columns))
    text = of("wera").get("/patients/1/glucose.csv")
    assert len(text.splitlines()) == silver.height + 1
    of("wera").get("/patients/1/anything.csv", status=404)
    of("wera").get("/patients/1/glucose.exe", status=404)


def test_values_are_in_the_viewers_unit(of):
    page = of("dina").get("/patients/1")
    assert "target 3.9–10.0" in page
    assert 'glucose below <span class="number">3.0 mmol/L' in page
    assert "mg/dL" not in page
    past = of("dina").get("/alarms?days=7&cause=vitals_glucose_high")
    assert re.search(r'data-label="Worst" class="number">[0-9]+\.[0-9] mmol/L<', past)


def test_quality_names_reasons_and_repeats_no_body(of, settings):
    lake = lake_of(settings)
    quarantine = lake.table(CONTRACT.tables.quarantine).scan().collect()
    page = of("sofia").get("/quality")
    assert quarantine.height
    for reason in quarantine["reason"].unique():
        assert f"<code>{reason.replace('>', '&gt;').replace('<', '&lt;')}</code>" in page
    for body in quarantine["body"].drop_nulls().filter(quarantine["body"].drop_nulls().str.len_chars() > 20):
        assert body not in page
    assert "counts reconcile" in page
    assert not (settings.root / "oltp.db").exists(), "looking makes no store"


def change(**fields: str) -> dict[str, str]:
    return {"rule_id": "glucose_low", "scope": "patient:1", "threshold": "80", "note": "often low at work"} | fields


def test_a_change_is_previewed_then_saved_and_holds_on_the_patients_page(of, settings):
    wera, lake = of("wera"), lake_of(settings)
    before = rule_versions(lake).height
    shown = wera.post("/rules/preview", change())
    assert shown.status_code == 200
    assert "What it would have done" in shown.text
    said = " ".join(re.sub("<[^>]+>", " ", shown.text).split())
    assert "With the change, for patient:1 , glucose low holds when glucose is below 80 mg/dL : ◆ warning ." in said
    assert rule_versions(lake).height == before, "a preview saves nothing"
    done = wera.post("/rules", change())
    assert (done.status_code, done.headers["location"]) == (303, "/rules?saved=changed")
    saved = rule_versions(lake).filter(pl.col("rule_id") == "glucose_low").row(-1, named=True)
    assert (saved["threshold"], saved["changed_by"], saved["scope"]) == (80.0, "wera", "patient:1")
    page = wera.get("/patients/1")
    assert "80 mg/dL</span></td>" in page
    assert "set for patient 1" in page
    assert "set for patient 1" not in wera.get("/patients/4")
    assert wera.post("/rules", change(note="")).headers["location"] == "/rules?saved=unchanged"
    assert "the change would change nothing" in wera.post("/rules/preview", change()).text


def test_a_change_that_somebody_else_made_meanwhile_is_not_overwritten(of, settings):
    wera, lake = of("wera"), lake_of(settings)
    fields = change(rule_id="glucose_urgent_low", scope="patient:98", threshold="60")
    opened = wera.opened()
    other = Wanted("glucose_urgent_low", {"threshold": 58.0, "note": None}, "patient:98")
    put_rules(lake, CONTRACTS_WITH_ALARMS, [other], valid_from=NOW, clock=lambda: NOW, changed_by="a file")
    refused = wera.client.post("/rules", data=fields | opened)
    assert refused.status_code == 400
    assert "(patient:98) was changed by a file since it was looked at. Nothing was written." in refused.text
    of_patient = pl.col("scope") == "patient:98"
    assert rule_versions(lake).filter(of_patient).sort("version")["threshold"].to_list() == [58.0]
    # Another scope was not changed, and the same one is once it was seen.
    elsewhere = change(rule_id="glucose_urgent_low", scope="patient:99", threshold="57")
    assert wera.client.post("/rules", data=elsewhere | opened).status_code == 303
    assert wera.post("/rules", fields).status_code == 303
    assert rule_versions(lake).filter(of_patient).sort("version")["threshold"].to_list() == [58.0, 60.0]
    assert wera.client.post("/rules", data=fields | opened | {"seen": "yesterday"}).status_code == 400


def test_the_form_of_a_rule_has_what_holds_now_though_the_list_is_older(of, settings):
    wera, lake = of("wera"), lake_of(settings)

    def elsewhere(threshold: float) -> None:
        wanted = Wanted("glucose_low", {"threshold": threshold, "severity": "warning", "note": None}, "patient:97")
        put_rules(lake, CONTRACTS_WITH_ALARMS, [wanted], valid_from=NOW, clock=lambda: NOW, changed_by="a file")

    elsewhere(66.0)
    [link] = re.findall(r'href="(/rules\?[^"]*patient%3A97[^"]*)#change"', wera.get("/rules"))
    elsewhere(61.0)
    form = wera.get(html.unescape(link))
    assert 'value="61.0"' in form
    assert "66.0" not in form
    assert "<option selected>warning</option>" in form


def test_a_change_that_became_wrong_before_it_is_previewed_says_so_too(of, monkeypatch):
    class Earlier(RuleSet):
        def changes(self, *_: Any, **__: Any) -> RuleChanges:
            return RuleChanges(pl.DataFrame(), 0)

    monkeypatch.setattr(routes_rules, "RuleSet", Earlier)
    answer = of("wera").post("/rules/preview", change(threshold="5"))
    assert (answer.status_code, "write a number from 20 to 1000" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"threshold": "abc"}, "threshold: a text of 3 characters; write a number such as 70 or 38.5"),
        ({"threshold": "5"}, "write a number from 20 to 1000, or disable the rule"),
        ({"scope": "patient:x"}, "scope: "),
        ({"hours_from": "22:00"}, "hours without both ends"),
        ({"rule_id": "no_rule"}, "no rule"),
        ({"scope": "patient:4", "threshold": "", "severity": "info"}, "write the threshold that shall hold there"),
    ],
)
def test_a_wrong_change_says_what_to_do_and_saves_nothing(of, settings, fields, said):
    before = rule_versions(lake_of(settings)).height
    for path in ("/rules", "/rules/preview"):
        answer = of("wera").post(path, change(**fields))
        assert answer.status_code == 400
        assert said in answer.text
    assert rule_versions(lake_of(settings)).height == before


@pytest.mark.parametrize("scope", ["all", "", "patient:2", "group:athlete"])
def test_rules_of_others_cannot_be_changed(of, settings, scope):
    before = rule_versions(lake_of(settings)).height
    answer = of("dina").post("/rules", change(scope=scope))
    assert answer.status_code == 400
    assert "is not yours to change" in answer.text
    assert rule_versions(lake_of(settings)).height == before
    assert of("alan").post("/rules", change()).status_code == 403


def test_drugs_of_a_patient_stand_with_reports_of_their_substances_for_those_who_may_see_drug_safety(of, settings):
    lake = lake_of(settings)
    reported = (
        lake.table(REPORTS_BY_SUBSTANCE).scan().sort("report_count", descending=True).collect().row(0, named=True)
    )
    columns = {"load_number": 1, "row_number": 1, "revision": 1, "started_on": date(2026, 1, 5)}
    taken = [
        {"medication_id": 1, "patient_id": 2, "drug_name": reported["substance"].lower(), "ended_on": date(2999, 1, 1)},
        {"medication_id": 2, "patient_id": 2, "drug_name": "Unheard-of", "ended_on": None},
        {"medication_id": 3, "patient_id": 2, "drug_name": "Past", "ended_on": date(2026, 2, 1)},
        {"medication_id": 4, "patient_id": 1, "drug_name": "Of another", "ended_on": None},
    ]
    rows = [columns | each | {"substance": str(each["drug_name"]).upper(), "dose": "one by night"} for each in taken]
    silver = EHR_MEDICATIONS.silver
    lake.table(silver).ensure().append(pl.DataFrame(rows, schema=silver.schema), transactions={})
    page, found = of("wera").get("/patients/2"), of("wera").rows("/patients/2/drugs.parquet")
    assert found["drug_name"].to_list() == sorted([reported["substance"].lower(), "Unheard-of"])
    counts = dict(found.select("drug_name", "report_count").iter_rows())
    assert counts == {reported["substance"].lower(): reported["report_count"], "Unheard-of": None}
    assert 'id="drugs"' in page
    assert "one by night" in page
    assert "one by night" not in of("alan").get("/patients/2") + of("alan").get("/patients/2/drugs.csv")
    assert 'id="drugs"' in of("alan").get("/patients/2")
    assert 'id="drugs"' not in of("carl").get("/patients/2")
    assert of("carl").rows("/patients/2/drugs.parquet").is_empty()


def test_drug_safety_shows_one_drug(of):
    page = of("sofia").get("/safety")
    drug = re.search(r"<option>([A-Z]+)</option>", page)
    assert drug is not None
    assert f"Reactions with {drug[1]}" in of("sofia").get(f"/safety?drug={drug[1]}")
    of("sofia").get("/safety?drug=%3Cscript%3E", status=400)
    assert of("sofia").rows("/safety/signals.parquet").height


@pytest.mark.service
def test_pages_are_accessible_fit_a_phone_and_ask_no_other_host(address, browser):
    for scheme, width in (("light", 1280), ("dark", 360)):
        with tab(browser, address, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
            sign_in(page, "adam", "/login?next=/rules")
            for path in PAGES:
                page.goto(path)
                found = Axe().run(page).response["violations"]
                assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], path
                assert page.evaluate("document.documentElement.scrollWidth") <= width, path
                charts = page.locator(".both > .chart")
                if charts.count():
                    visible = [charts.nth(at).is_visible() for at in range(charts.count())]
                    assert sum(visible) * 2 == len(visible), "each chart is shown once"


@pytest.mark.service
def test_a_patients_page_that_stays_open_says_how_old_it_is(address, browser):
    with tab(browser, address) as page:
        page.clock.install()
        sign_in(page, "wera", "/login?next=/rules")
        # Else the time that a busy machine takes counts too.
        page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
        page.goto("/patients/1")
        expect(page.locator("#newest")).to_be_visible()
        page.clock.fast_forward("00:50")
        expect(page.locator("#aged")).to_be_hidden()
        page.clock.fast_forward("15:00")
        expect(page.locator("#aged")).to_contain_text("This page is 15 min old")
        expect(page.locator("#newest .newest")).to_have_css("text-decoration-line", "line-through")


@pytest.mark.service
def test_a_patient_is_printed_on_one_sheet(address, browser):
    with tab(browser, address) as page:
        sign_in(page, "wera", "/login?next=/rules")
        page.goto("/patients/1")
        sheets = page.pdf(prefer_css_page_size=True, print_background=True)
        assert len(re.findall(rb"/Type\s*/Page\b", sheets)) == 1


# ---------------------------------------------------------------------- what a preview says


@contextmanager
def alarms_of(folder: Path, wanted: Wanted | None) -> Iterator[tuple[Lake, pl.DataFrame]]:
    """A lake in which patients have lived with a rule from the beginning, and the alarms that were raised there."""
    lake = Lake(str(folder))

    def set_rule() -> None:
        if wanted is not None:
            put_rules(lake, [CONTRACT], [wanted], valid_from=LONG_AGO, clock=lambda: LONG_AGO)

    live(lake, NOW, patients=PATIENTS, days=2, glucose_alone=True, prepared=set_rule)
    rows = lake.table(CONTRACT.tables["alarms"]).scan().filter(pl.col("kind") == "raised").collect()
    yield lake, rows


@pytest.fixture(scope="module")
def as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, pl.DataFrame]]:
    with alarms_of(tmp_path_factory.mktemp("before"), None) as found:
        yield found


def count(rows: pl.DataFrame, cause: str) -> int:
    return rows.filter(pl.col("cause") == cause).height


def told(lake: Lake, wanted: Wanted) -> Any:
    contracts: list[Contract] = [CONTRACT]
    return preview(lake, contracts, wanted, NOW + timedelta(seconds=2))


@pytest.mark.parametrize("rule", ["glucose_low", "glucose_high", "glucose_silence"])
def test_what_holds_is_previewed_as_the_alarms_on_record(as_it_was, rule):
    lake, record = as_it_was
    threshold = {"glucose_low": 70.0, "glucose_high": 115.0, "glucose_silence": 30.0}[rule]
    found = told(lake, Wanted(rule, {"threshold": threshold}))
    assert found.before == found.after
    assert sum(found.before.values()) == count(record, found.cause) > 0
    assert found.by_patient.is_empty()
    assert found.notifications_before == found.notifications_after > 0


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("glucose_low", {"threshold": 85.0}),
        Wanted("glucose_urgent_high", {"threshold": 200.0}, "group:diabetic"),
        Wanted("glucose_low", {"threshold": 140.0}, "patient:1", "00:00", "12:00"),
    ],
    ids=lambda each: f"{each.rule_id} {each.scope}",
)
def test_a_change_is_previewed_as_sessions_would_have_decided_with_it(as_it_was, tmp_path, wanted):
    lake, record = as_it_was
    found = told(lake, wanted)
    with alarms_of(tmp_path, wanted) as (_, changed):
        concerned = pl.lit(True)
        if wanted.scope != "all":
            patients = [1] if wanted.scope == "patient:1" else [1, 6]
            concerned = pl.col("entity").is_in(patients)
        after = changed.filter(concerned)
        assert sum(found.after.values()) == count(after, found.cause)
        assert sum(found.before.values()) == count(record.filter(concerned), found.cause)
        assert found.before != found.after
        by_entity = partial(_counts, found.cause)
        for row in found.by_patient.iter_rows(named=True):
            assert row["before"] == by_entity(record).get(row["entity"], 0)
            assert row["after"] == by_entity(after).get(row["entity"], 0)


def test_a_preview_of_too_many_readings_looks_back_less_far():
    by_day = {date(2026, 11, 27): 1000, date(2026, 11, 28): 1000, date(2026, 11, 29): 500}
    since, until = datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert reach_back(by_day, since, until, 2500) == since
    assert reach_back(by_day, since, until, 1000) == datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert reach_back(by_day, since, until, 250) == datetime(2026, 11, 29, 6, tzinfo=UTC)
    assert reach_back({}, since, until, 10) == since


def _counts(cause: str, rows: pl.DataFrame) -> dict[int, int]:
    return dict(rows.filter(pl.col("cause") == cause).group_by("entity").len().iter_rows())
