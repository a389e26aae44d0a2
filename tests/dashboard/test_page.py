"""The live page in a real browser, with a real hub, real sessions and a server in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dashboard.access import Role, Scope
from dashboard.database import page_database
from dashboard.users import User, Users
from orchestration.alarms import contracts_with_alarms
from tests.dashboard.browser import opened, sign_in, tab
from tests.dashboard.world import PASSWORD, ROOT, SCRIPT, World, now, wait_until, world
from tests.services.chromium import FLAGS, chromium, executable

pytestmark = [pytest.mark.service, pytest.mark.slow]

PHONE = {"viewport": {"width": 360, "height": 740}}
LIVE = "#live[data-state=live]"
FIRST_OF_STREAM = """async () => {
    const reader = (await fetch("/live")).body.getReader(), decoder = new TextDecoder();
    let text = "";
    while (!text.includes("\\n\\n")) text += decoder.decode((await reader.read()).value, { stream: true });
    await reader.cancel();
    return text.split("data: ")[1];
}"""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("hospital")) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def row(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has_text=name)


def alarm_rows(hospital: World, patient: int) -> pl.DataFrame:
    tables = [hospital.lake.table(each.tables["alarms"]).scan().collect() for each in contracts_with_alarms()]
    rows = pl.concat(tables)
    return rows.filter(pl.col("entity") == patient, ~pl.col("is_update")).sort("fold", "index")


def battery(device: int, level: float) -> dict[str, Any]:
    said = {"firmware_version": "1.0.0", "connectivity_status": "Connected", "error_codes": ""}
    return said | {"device_id": device, "battery_level": level, "timestamp": now().isoformat()}


def axe(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found.response["violations"]]


def test_a_low_reaches_the_ward_is_acknowledged_by_a_click_and_explain_says_who(
    hospital: World, browser: Browser
) -> None:
    began = now()
    with tab(browser, hospital.address) as nora, tab(browser, hospital.address) as carl:
        sign_in(nora, "nora")
        sign_in(carl, "carl")
        for page in (nora, carl):
            page.locator(LIVE).wait_for()
        for patient in (1, 2, 4):
            hospital.glucose(patient, 90, 5)
        hospital.send("device_readings", battery(102, 37))
        expect(row(nora, "Bram Visser").locator(".glucose .value")).to_have_text("90")
        expect(row(nora, "Bram Visser").locator(".battery .value")).to_have_text("37")
        expect(row(nora, "Dora Graf")).to_have_count(0)
        # The name of patient 3 is a script, and stays a text.
        expect(row(nora, SCRIPT)).to_have_count(1)
        assert nora.title().endswith("Ward · Pulselake")

        hospital.glucose(2, 50)
        hospital.glucose(1, 63, location=SCRIPT)
        bram = row(nora, "Bram Visser")
        expect(bram.locator(".badge")).to_contain_text("urgent")
        expect(bram.locator(".glucose .value")).to_have_text("50")
        button = nora.get_by_role("button", name="Acknowledge glucose low of Bram Visser")
        # That nobody did says the button.
        expect(bram.locator(".state")).to_have_text("")
        button.click()
        expect(bram.locator(".state")).to_have_text("acknowledged by nora")
        expect(button).to_be_hidden()
        wait_until(lambda: "acknowledged" in alarm_rows(hospital, 2)["kind"].to_list(), "the transition in the table")

        # The caregiver has a patient of their own, in their own unit, and no other one anywhere.
        expect(row(carl, "Ana Silva").locator(".glucose .value")).to_have_text("3.5")
        expect(carl.locator("#rows tr")).to_have_count(1)
        assert {each["key"] for each in json.loads(carl.evaluate(FIRST_OF_STREAM))["rows"]} == {"1"}
        assert opened(carl, "/alarms?patient=2").status == 404
        assert opened(carl, "/alarms/past.csv?patient=2").status == 404

    raised = alarm_rows(hospital, 2)
    assert raised.filter(pl.col("kind") == "acknowledged")["actor"].to_list() == ["nora"]
    told = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "explain", raised["alarm_id"][0]],
        cwd=ROOT,
        env=hospital.environment() | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "acknowledged" in told.stdout
    assert "nora" in told.stdout

    done = {
        name: [(each.what, each.subject) for each in hospital.audit() if each.at >= began and each.who == name]
        for name in ("nora", "carl")
    }
    seen = [("login", ""), ("view ward", ""), ("view live", "")]
    assert done["nora"] == [*seen, ("acknowledge", "2")]
    assert done["carl"] == [*seen, ("view live", ""), ("denied", "2"), ("denied", "2")]
    assert "Silva" not in hospital.logged()


def test_several_alarms_are_acknowledged_and_snoozed_together(hospital: World, browser: Browser) -> None:
    with tab(browser, hospital.address) as page:
        sign_in(page, "wera", "/login?next=/alarms")
        page.locator(LIVE).wait_for()
        hospital.glucose(4, 45)
        hospital.glucose(5, 44)
        for name in ("Dora Graf", "Emil Tamm"):
            page.get_by_label(f"Choose glucose low of {name}").check()
        page.get_by_label("Note").fill("a snack is on its way " + SCRIPT)
        page.get_by_role("button", name="Acknowledge chosen").click()
        for name in ("Dora Graf", "Emil Tamm"):
            expect(row(page, name).locator(".state")).to_have_text("acknowledged by wera")
        page.get_by_label("Choose glucose low of Emil Tamm").check()
        page.get_by_role("button", name="Snooze chosen").click()
        expect(row(page, "Emil Tamm").locator(".state")).to_contain_text("snoozed by wera until")
        # What somebody sees no more is not acted on: the page says so, and nothing happens.
        alarm_id = alarm_rows(hospital, 4)["alarm_id"][0]
        token = page.locator("body").get_attribute("data-csrf") or ""
        form: dict[str, str | float | bool] = {"action": "close", "alarm": f"{alarm_id}:0", "csrf": token}
        said = page.request.post("/alarms/act", form=form, headers={"sec-fetch-site": "same-origin"})
        assert said.status == 200
        expect(row(page, "Dora Graf")).to_have_count(0)
        page.reload()
        past = page.get_by_role("region", name="Past alarms")
        expect(past.get_by_role("row").filter(has_text="Dora Graf")).to_contain_text("closed by wera")
        assert "taken over" not in page.title()
    rows = alarm_rows(hospital, 4)
    assert rows["kind"].to_list() == ["raised", "acknowledged", "closed"]
    assert rows["note"][1] == "a snack is on its way " + SCRIPT


def test_no_alarm_is_said_to_be_open_only_where_that_is_known(hospital: World, browser: Browser) -> None:
    with tab(browser, hospital.address) as page:
        page.route(re.compile("/live(/snapshot)?$"), lambda route: route.abort())
        sign_in(page, "nora", "/login?next=/alarms")
        expect(page.locator("#live")).to_have_attribute("data-state", "silent")
        expect(page.get_by_text("No alarm is open.")).to_be_hidden()
        page.unroute_all()
        hospital.glucose(2, 44)
        expect(page.locator("#rows").get_by_text("Bram Visser")).to_be_visible()
        page.get_by_label("Find").fill("somebody else")
        expect(page.get_by_text("No open alarm fits what is looked for")).to_be_visible()
        expect(page.get_by_text("No alarm is open.")).to_be_hidden()


def test_a_long_name_pushes_no_alarm_out_of_sight(hospital: World, browser: Browser) -> None:
    named = "(name) => { name.textContent = 'W'.repeat(80); return %s; }"
    with tab(browser, hospital.address, viewport={"width": 1280, "height": 800}) as page:
        sign_in(page, "nora")
        page.locator(LIVE).wait_for()
        hidden = "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(name.closest('.table-wrap'))"
        assert page.locator("#rows .name").first.evaluate(named % hidden) <= 0
        page.set_viewport_size({"width": 320, "height": 640})
        page.goto("/patients/1")
        assert page.locator("h1").evaluate(named % "document.documentElement.scrollWidth") <= 320


def test_a_server_that_dies_is_told_of_and_what_comes_after_its_return_is_shown(
    hospital: World, browser: Browser
) -> None:
    with tab(browser, hospital.address) as page, tab(browser, hospital.address) as other:
        sign_in(page, "nora")
        sign_in(other, "nora")
        hospital.glucose(1, 120)
        ana = row(page, "Ana Silva")
        expect(ana.locator(".glucose .value")).to_have_text("120")
        hospital.kill()
        expect(page.locator("#live")).to_have_attribute("data-state", "silent")
        expect(page.locator("#live-text")).to_contain_text("Not live")
        expect(ana.locator(".glucose .reading")).to_have_css("text-decoration-line", "line-through")
        for button in page.locator(".acknowledge:visible").all():
            expect(button).to_be_disabled()
        hospital.glucose(1, 130)
        hospital.serve()
        for each in (page, other):
            each.locator(LIVE).wait_for()
            expect(row(each, "Ana Silva").locator(".glucose .value")).to_have_text("130")


def test_a_hub_that_hangs_is_told_of_while_the_server_lives(hospital: World, browser: Browser) -> None:
    with tab(browser, hospital.address) as page:
        sign_in(page, "nora")
        page.locator(LIVE).wait_for()
        os.kill(hospital.hub.pid, signal.SIGSTOP)
        try:
            expect(page.locator("#live")).to_have_attribute("data-state", "trouble")
            expect(page.locator("#live-text")).to_contain_text("does not answer")
            expect(page.locator("#live-text")).to_contain_text("Values are old")
        finally:
            os.kill(hospital.hub.pid, signal.SIGCONT)
        page.locator(LIVE).wait_for()


def test_a_device_that_nobody_wears_stands_apart_while_an_alarm_of_it_is_open(
    hospital: World, browser: Browser
) -> None:
    with tab(browser, hospital.address) as page, tab(browser, hospital.address) as nora:
        sign_in(page, "wera")
        sign_in(nora, "nora")
        for each in (page, nora):
            each.locator(LIVE).wait_for()
        told = {
            **{"alarm_id": "e" * 16, "index": 0, "transition": "raised", "stream": "device_readings"},
            **{"device_id": 999, "cause": "silence", "severity": "urgent", "state": "unacknowledged"},
            **dict.fromkeys(("at", "decided_at", "raised_at"), now().isoformat()),
        }
        hospital.send("alarms", told)
        apart = page.locator("#devices tr:visible")
        expect(apart).to_have_count(2)
        expect(apart.nth(0)).to_contain_text("Devices that nobody wears")
        # Rows are drawn where they are seen.
        apart.nth(1).scroll_into_view_if_needed()
        expect(apart.nth(1)).to_contain_text("Device 999")
        expect(page.locator("#rows tr:visible")).to_have_count(6)
        expect(page.locator("#counts")).to_contain_text("6 patients")
        hospital.send("alarms", told | {"index": 1, "transition": "cleared", "state": "cleared"})
        expect(apart).to_have_count(0)
        expect(nora.locator("#devices tr:visible")).to_have_count(0)


STATES = """() => {
    const live = document.getElementById("live");
    window.states = [];
    new MutationObserver(() => window.states.push(live.dataset.state)).observe(live, { attributes: true });
}"""


def test_a_connection_that_hangs_never_looks_live(hospital: World, browser: Browser) -> None:
    assert hospital.server is not None
    with tab(browser, hospital.address) as page:
        sign_in(page, "nora")
        page.locator(LIVE).wait_for()
        page.evaluate(STATES)
        hospital.server.send_signal(signal.SIGSTOP)
        try:
            expect(page.locator("#live")).to_have_attribute("data-state", "silent")
            # By then the page has begun to connect anew.
            expect(page.locator("#live-text")).to_have_text(re.compile(r"for \d\d s"))
            assert {*page.evaluate("window.states")} == {"silent"}
        finally:
            hospital.server.send_signal(signal.SIGCONT)
        page.locator(LIVE).wait_for()


def test_a_tab_beside_another_one_gets_its_snapshot_though_the_first_try_failed(
    hospital: World, browser: Browser
) -> None:
    with tab(browser, hospital.address) as page:
        sign_in(page, "nora")
        page.locator(LIVE).wait_for()
        second = page.context.new_page()
        second.route("**/live/snapshot", lambda route: route.abort(), times=1)
        second.goto("/")
        second.locator(LIVE).wait_for()
        expect(row(second, "Ana Silva")).to_have_count(1)


def test_rows_stay_where_they_are_under_a_hand(hospital: World, browser: Browser) -> None:
    with tab(browser, hospital.address) as page:
        sign_in(page, "wera")
        page.locator(LIVE).wait_for()
        names = page.locator("#rows .name")
        expect(names).to_have_count(6)
        page.mouse.move(400, 500)
        before = names.all_inner_texts()
        page.mouse.move(410, 500)
        hospital.glucose(6, 41)
        expect(row(page, "Fleur Petit").locator(".badge")).to_contain_text("urgent")
        again = page.get_by_role("button", name="Put in order again")
        expect(again).to_be_visible()
        assert names.all_inner_texts() == before
        again.click()
        assert names.all_inner_texts() != before


def test_what_is_heavy_is_not_loaded_into_the_server(hospital: World) -> None:
    assert hospital.server is not None
    with httpx.Client(base_url=hospital.address, headers={"sec-fetch-site": "same-origin"}, timeout=300) as adam:
        adam.post("/login", data={"name": "adam", "password": PASSWORD, "next": ""})
        page = adam.get("/quality")
        assert "counts reconcile" in page.text
        assert adam.get("/quality/loads.csv").status_code == 200
    libraries = Path(f"/proc/{hospital.server.pid}/maps").read_text()
    assert "polars" in libraries
    for heavy in ("duckdb", "grpc"):  # Dagster has no library of its own, but loads the latter
        assert heavy not in libraries
    assert psutil.Process(hospital.server.pid).children() == []


def test_streams_end_with_the_session_and_with_the_rights(hospital: World, browser: Browser) -> None:
    database = page_database(hospital.settings.root)
    users = Users(database, now)
    with tab(browser, hospital.address) as page, tab(browser, hospital.address) as other:
        sign_in(page, "carl")
        sign_in(other, "carl")
        for each in (page, other):
            each.locator(LIVE).wait_for()
            expect(each.locator("#rows tr")).to_have_count(1)
        users.change(User("carl", Role.CAREGIVER, Scope(patients=frozenset({1, 3})), "mmol/L"))
        for each in (page, other):
            expect(each.locator("#rows tr")).to_have_count(2)
        users.change(User("carl", Role.CAREGIVER, Scope(patients=frozenset({1})), "mmol/L", is_disabled=True))
        for each in (page, other):
            expect(each.locator("#live")).to_have_attribute("data-state", "out")
        assert opened(page, "/").url.endswith("/login?next=%2F")
    users.change(User("carl", Role.CAREGIVER, Scope(patients=frozenset({1})), "mmol/L"))
    database.close()


@pytest.mark.parametrize("options", [PHONE, {"color_scheme": "dark"}])
def test_pages_are_accessible_in_each_size_and_colour(
    hospital: World, browser: Browser, options: dict[str, Any]
) -> None:
    with tab(browser, hospital.address, **options) as page:
        page.goto("/login")
        assert axe(page) == []
        for name, paths in {"wera": ("/", "/alarms", "/nowhere"), "adam": ("/admin", "/admin/audit")}.items():
            sign_in(page, name)
            for path in paths:
                page.goto(path)
                if path in ("/", "/alarms"):
                    page.locator(LIVE).wait_for()
                assert axe(page) == [], path
                if options.get("viewport"):
                    assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("heading", name="Sign in").wait_for()


def test_the_page_works_by_keyboard_and_sound_is_asked_for(hospital: World, browser: Browser) -> None:
    with tab(browser, hospital.address) as page:
        page.goto("/login")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("wera")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.type("four words that nobody guesses")
        page.keyboard.press("Enter")
        page.locator(LIVE).wait_for()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
        sound = page.locator("#sound")
        expect(sound).to_have_text("Sound: off")
        sound.focus()
        page.keyboard.press("Enter")
        expect(sound).to_have_attribute("aria-pressed", "true")
        page.get_by_label("Find").fill("fleur")
        expect(page.locator("#rows tr:visible")).to_have_count(1)
        expect(page.locator("#nothing")).to_be_hidden()
        page.get_by_label("Find").fill("nobody of that name")
        expect(page.locator("#nothing")).to_have_text(
            "No patient fits what is looked for. Change it above.", use_inner_text=True
        )


def test_the_page_can_be_installed(hospital: World, browser: Browser, tmp_path: Path) -> None:
    # Without a profile on the disk Chromium installs nothing.
    context = browser.browser_type.launch_persistent_context(
        tmp_path, executable_path=executable(), args=FLAGS, base_url=hospital.address
    )
    page = context.new_page()
    sign_in(page, "wera")
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    errors = context.new_cdp_session(page).send("Page.getInstallabilityErrors")
    context.close()
    assert errors["installabilityErrors"] == []
