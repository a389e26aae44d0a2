"""Administrators say on the page who is told of alarms; nobody else does, and no secret is shown."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.requests import Request

from assets.notifying import Directory
from assets.reference.tables import SUBSCRIBERS, SUBSCRIPTIONS, Reference
from assets.reference_store import held, put
from dashboard import routes_subscriptions
from dashboard.editing import typed
from dashboard.routes_subscriptions import PATH, Edit
from dashboard.site import Site
from resources.lake import ConcurrentWriteError
from tests.dashboard.serving import OWN, Served, served
from tests.dashboard.world import SCRIPT, load, now

pytestmark = pytest.mark.service

MARIA = {"do": "save-subscriber", "name": "Maria", "type": "caregiver", "channels": "TG_MARIA; MAIL_MARIA"}
OF_ANA = {
    "do": "save-subscription",
    "subscriber_id": "1",
    "scope": "patient:1",
    "tier": "0",
    "minimum_severity": "urgent",
}


@contextmanager
def told(folder: Path) -> Iterator[Served]:
    """A server of a home in which the nurses are told of the north."""
    with served(folder) as made:
        nurses = {"subscriber_id": 1, "name": "Nurses", "type": "doctor", "channels": "TG_NURSES", "time_zone": "UTC"}
        load(made.lake, SUBSCRIBERS, [nurses])
        of_north = {"subscription_id": 4, "subscriber_id": 1, "scope": "group:north", "tier": 0}
        load(made.lake, SUBSCRIPTIONS, [of_north | {"minimum_severity": "warning"}])
        yield made


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    with told(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same for tests in which nothing may change."""
    with told(tmp_path_factory.mktemp("page")) as made:
        before = rows(made, SUBSCRIBERS), rows(made, SUBSCRIPTIONS)
        yield made
        assert (rows(made, SUBSCRIBERS), rows(made, SUBSCRIPTIONS)) == before


def rows(page: Served, reference: Reference) -> list[dict[str, Any]]:
    return held(page.lake, reference, now()).to_dicts()


def opened(page: Served, kind: str, key: int) -> dict[str, str]:
    """The fields that a form has beside those that are typed."""
    text = page.of("adam").get(f"{PATH}?{kind}={key}").text
    return {name: (re.search(f'name="{name}" value="([^"]*)"', text) or ["", ""])[1] for name in ("key", "seen")}


def test_a_subscriber_and_a_subscription_are_added_and_count_for_who_notifies(page: Served) -> None:
    assert page.post("adam", PATH, MARIA).status_code == 303
    added = rows(page, SUBSCRIBERS)[-1]
    assert (added["subscriber_id"], added["name"], added["channels"]) == (2, "Maria", "MAIL_MARIA;TG_MARIA")
    assert added["changed_by"] == "adam"
    said = page.post("adam", PATH, OF_ANA | {"subscriber_id": "2", "transitions": ["raised", "cleared"]})
    assert said.status_code == 303
    subscription = rows(page, SUBSCRIPTIONS)[-1]
    assert (subscription["subscription_id"], subscription["transitions"]) == (5, "cleared;raised")
    assert (subscription["tier"], subscription["minimum_severity"]) == (0, "urgent")
    who = Directory(page.lake).people(now())
    assert [each.subscriber_id for each in who.of_patients[1]] == [2]
    assert who.subscribers[2].channels == ("MAIL_MARIA", "TG_MARIA")
    done = [each for each in page.done() if each[1].startswith("add")]
    assert done == [("adam", "add subscriber", "subscriber 2"), ("adam", "add subscription", "patient:1")]


def test_what_holds_is_changed_and_ended_and_stays_on_record(page: Served) -> None:
    change = {**OF_ANA, "scope": "group:south", "minimum_severity": "info", **opened(page, "subscription", 4)}
    assert page.post("adam", PATH, change).status_code == 303
    [row] = rows(page, SUBSCRIPTIONS)
    assert (row["subscription_id"], row["scope"], row["minimum_severity"]) == (4, "group:south", "info")
    assert page.post("adam", PATH, {"do": "end-subscriber", **opened(page, "subscriber", 1)}).status_code == 303
    assert rows(page, SUBSCRIBERS) == rows(page, SUBSCRIPTIONS) == []
    assert Directory(page.lake).people(now()).of_groups == {}
    versions = page.lake.table(SUBSCRIPTIONS.table).scan().collect().sort("known_at")
    assert versions["is_deleted"].to_list() == [False, False, True]
    assert [each[1:] for each in page.done() if "subscri" in each[1] and "view" not in each[1]] == [
        ("change subscription", "group:south"),
        ("end subscriber", "subscriber 1"),
        ("end subscription", "group:south"),
    ]
    # A number is not given to somebody else.
    page.post("adam", PATH, MARIA)
    assert [each["subscriber_id"] for each in rows(page, SUBSCRIBERS)] == [2]


def elsewhere(page: Served, key: int) -> None:
    """A program changes or adds a subscription."""
    other = {"subscription_id": key, "subscriber_id": 1, "scope": "patient:2", "tier": 1, "minimum_severity": "urgent"}
    schema = {name: SUBSCRIPTIONS.table.schema[name] for name in SUBSCRIPTIONS.cells}
    rows = pl.DataFrame([other], schema=schema)
    put(page.lake, SUBSCRIPTIONS, rows, valid_from=now(), clock=now, changed_by="a file")


@pytest.mark.parametrize("do", ["save-subscription", "end-subscription"])
def test_what_another_process_changes_while_it_is_saved_is_not_overwritten(
    page: Served, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    seen = opened(page, "subscription", 4)
    look = routes_subscriptions._overtaken

    def meanwhile(site: Site, edit: Edit) -> Edit | None:
        found = look(site, edit)
        if found is None:
            elsewhere(page, 4)
        return found

    monkeypatch.setattr(routes_subscriptions, "_overtaken", meanwhile)
    said = page.post("adam", PATH, {**OF_ANA, **seen, "do": do})
    assert said.status_code == 400
    assert "changed by a file since you opened it" in said.text
    assert 'value="patient:2"' in said.text
    assert [each["scope"] for each in rows(page, SUBSCRIPTIONS)] == ["patient:2"]
    assert not [each for each in page.done() if each[1] in ("change subscription", "end subscription")]


def test_a_number_that_another_process_has_just_given_away_is_given_to_nobody_else(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(page, 5)
    with monkeypatch.context() as late:
        late.setattr(routes_subscriptions, "_next_key", lambda *_: 5)
        said = page.post("adam", PATH, OF_ANA)
    assert said.status_code == 400
    assert "was added by a file meanwhile. Nothing was written. Save again" in said.text
    assert [each["scope"] for each in rows(page, SUBSCRIPTIONS)] == ["group:north", "patient:2"]
    assert page.post("adam", PATH, OF_ANA).status_code == 303
    assert [each["subscription_id"] for each in rows(page, SUBSCRIPTIONS)] == [4, 5, 6]


def test_what_is_ended_in_vain_is_shown_as_it_is(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, ended = opened(page, "subscriber", 1), routes_subscriptions._put

    def refused(request: Request, reference: Reference, *given: Any) -> None:
        if reference is SUBSCRIBERS:
            raise ConcurrentWriteError("Others were faster.")
        ended(request, reference, *given)

    with monkeypatch.context() as busy:
        busy.setattr(routes_subscriptions, "_put", refused)
        said = page.post("adam", PATH, {"do": "end-subscriber", **seen})
    assert (said.status_code, "Others were faster." in said.text) == (400, True)
    # With empty fields the next click would take the channels away.
    assert 'value="TG_NURSES"' in said.text
    assert (len(rows(page, SUBSCRIBERS)), len(rows(page, SUBSCRIPTIONS))) == (1, 1), "nothing was saved"


def test_the_subscriptions_of_who_is_ended_end_as_they_are_by_then(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, written = opened(page, "subscriber", 1), routes_subscriptions._put
    changes = [4]

    def meanwhile(request: Request, reference: Reference, *given: Any) -> None:
        if reference is SUBSCRIPTIONS and changes:
            elsewhere(page, changes.pop())
        written(request, reference, *given)

    monkeypatch.setattr(routes_subscriptions, "_put", meanwhile)
    assert page.post("adam", PATH, {"do": "end-subscriber", **seen}).status_code == 303
    assert rows(page, SUBSCRIBERS) == rows(page, SUBSCRIPTIONS) == []
    assert ("adam", "end subscription", "patient:2") in page.done()


def test_what_somebody_else_has_changed_meanwhile_is_shown_and_not_overwritten(page: Served) -> None:
    seen = opened(page, "subscription", 4)
    elsewhere(page, 4)
    for do in ("save-subscription", "end-subscription"):
        said = page.post("adam", PATH, {**OF_ANA, **seen, "do": do})
        assert said.status_code == 400
        assert "changed by a file since you opened it" in said.text
        assert 'value="patient:2"' in said.text
    assert [each["scope"] for each in rows(page, SUBSCRIPTIONS)] == ["patient:2"]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (MARIA | {"name": ""}, "name: an empty field; write a value"),
        (MARIA | {"type": "king"}, "type: none of the words"),
        (MARIA | {"quiet_from": "22:00"}, "quiet to: an empty cell; write both"),
        (MARIA | {"time_zone": "Mars/Base"}, "time zone: no known time zone"),
        (OF_ANA | {"scope": "patient:99"}, "scope: reference data know no patient of this number"),
        (OF_ANA | {"scope": "group:nroth"}, "scope: no patient is in a group of this name"),
        (OF_ANA | {"scope": "everyone"}, "scope: no scope; write patient:&lt;id&gt; or group:&lt;name&gt;"),
        (OF_ANA | {"subscriber_id": "7"}, "subscriber id: nobody has this number"),
        (OF_ANA | {"tier": "-1"}, "tier: a number below 0"),
        (OF_ANA | {"transitions": "vanished"}, "transitions: none of the words"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(unchanged: Served, form: dict[str, str], said: str) -> None:
    before = rows(unchanged, SUBSCRIBERS), rows(unchanged, SUBSCRIPTIONS)
    answer = unchanged.post("adam", PATH, form)
    assert answer.status_code == 400
    assert said in answer.text
    assert (rows(unchanged, SUBSCRIBERS), rows(unchanged, SUBSCRIPTIONS)) == before


def test_an_address_is_no_channel_and_is_shown_to_nobody_again(unchanged: Served) -> None:
    address = "tgram://123456:a-secret-token/42"
    answer = unchanged.post("adam", PATH, MARIA | {"channels": address})
    assert answer.status_code == 400
    assert "never an address itself" in answer.text
    assert 'value="Maria"' in answer.text, "what was right need not be typed again"
    assert "a-secret-token" not in answer.text
    # The channels that there are stay in the form, so that the next click does not end them.
    answer = unchanged.post("adam", PATH, MARIA | {"channels": address, **opened(unchanged, "subscriber", 1)})
    assert (answer.status_code, "a-secret-token" in answer.text) == (400, False)
    assert 'value="TG_NURSES"' in answer.text
    assert not any("a-secret-token" in each.detail for each in unchanged.site.audit.rows())


def test_an_address_is_not_shown_again_of_a_subscriber_who_was_ended_meanwhile(page: Served) -> None:
    seen = opened(page, "subscriber", 1)
    assert page.post("adam", PATH, {"do": "end-subscriber", **seen}).status_code == 303
    answer = page.post("adam", PATH, MARIA | {"channels": "tgram://123456:a-secret-token/42", **seen})
    assert (answer.status_code, "It was ended meanwhile" in answer.text) == (400, True)
    assert "a-secret-token" not in answer.text


@pytest.mark.parametrize("name", ["nora", "carl", "alan", "sofia", "wera"])
def test_others_neither_see_nor_change_who_is_told(unchanged: Served, name: str) -> None:
    assert unchanged.of(name).get(PATH).status_code == 403
    assert unchanged.of(name).get(f"{PATH}/subscribers.csv").status_code == 403
    before = rows(unchanged, SUBSCRIBERS), rows(unchanged, SUBSCRIPTIONS)
    for form in (MARIA, OF_ANA, {"do": "end-subscriber", "key": "1", "seen": ""}):
        assert unchanged.post(name, PATH, form).status_code == 403
    assert (rows(unchanged, SUBSCRIBERS), rows(unchanged, SUBSCRIPTIONS)) == before


def test_a_form_that_no_page_of_ours_sent_changes_nothing(unchanged: Served) -> None:
    adam = unchanged.of("adam")
    assert adam.post(PATH, data=MARIA).status_code == 403
    assert adam.post(PATH, data=MARIA | {"csrf": "x"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert len(rows(unchanged, SUBSCRIBERS)) == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [("?subscriber=99", 404), ("?subscription=x", 400), ("?subscriber=٣", 400), ("?find=%25x", 200)],
)
def test_odd_addresses_get_a_plain_answer(unchanged: Served, query: str, status: int) -> None:
    assert unchanged.of("adam").get(f"{PATH}{query}", headers=OWN).status_code == status
    assert unchanged.post("adam", PATH, {"do": "dance"}).status_code == 400
    assert unchanged.post("adam", PATH, {"do": "end-subscriber", "key": "", "seen": ""}).status_code == 404


def test_the_lists_are_searched_and_names_stay_texts(page: Served) -> None:
    page.post("adam", PATH, MARIA | {"name": SCRIPT})
    everything = page.of("adam").get(PATH).text
    assert "<script>document" not in everything
    assert "&lt;script&gt;document" in everything
    found = page.of("adam").get(f"{PATH}?find=NURSES").text
    assert ("Nurses" in found, "&lt;script&gt;document" in found.partition("Subscribers</h2>")[2]) == (True, False)
    assert "TG_NURSES" in page.of("adam").get(f"{PATH}/subscribers.csv").text


def test_a_list_of_nothing_but_separators_is_empty() -> None:
    row, wrong = typed(SUBSCRIBERS, {"name": "A", "type": "app", "channels": " ; "}, now().date())
    assert (row["channels"], wrong) == (None, {})
