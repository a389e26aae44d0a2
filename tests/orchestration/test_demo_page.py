"""Whether the demo looks at its live page as a browser does, and for no longer than it may."""

import socket
from pathlib import Path

import polars as pl
import pytest

from dashboard.access import Role, Scope
from dashboard.users import User
from orchestration import demo_page
from orchestration.demo_page import OnThePage, WardPage
from orchestration.processes import Children
from orchestration.web_cli import FIRST_USER
from tests.dashboard.serving import served
from tests.dashboard.test_board import transition
from tests.dashboard.world import PASSWORD
from tests.stream.scenarios import lake_in


@pytest.mark.service
def test_the_alarms_on_the_page_are_counted_whatever_proxy_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setattr(demo_page, "alarms", lambda _: pl.DataFrame({"alarm_id": ["a1", "not there"]}))
    monkeypatch.setattr(demo_page, "TRY_S", 0.0)
    with served(tmp_path) as page, Children(tmp_path) as children:
        page.site.users.add(User(FIRST_USER, Role.ADMINISTRATOR, Scope(is_everyone=True)), PASSWORD)
        page.site.board.take_alarms([transition(0)], {})
        found = WardPage(page.site.settings.page_port, PASSWORD).shown(page.lake, children)
    assert (found.open, found.shown) == (2, 1)


def test_a_page_that_does_not_answer_is_looked_at_until_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[object]()

    def alarms(lake: object) -> pl.DataFrame:
        looks.append(lake)
        return pl.DataFrame({"alarm_id": ["a1"]})

    monkeypatch.setattr(demo_page, "alarms", alarms)
    for name, seconds in (("ANSWER_S", 0.2), ("TRY_S", 0.5), ("_AGAIN_AFTER_S", 0.01)):
        monkeypatch.setattr(demo_page, name, seconds)
    with socket.create_server(("127.0.0.1", 0)) as silent, Children(tmp_path) as children:
        found = WardPage(silent.getsockname()[1], PASSWORD).shown(lake_in(tmp_path), children)
    assert found == OnThePage(1, 0, PASSWORD)
    # Each look waits for an answer; the time counts, and not the looks.
    assert len(looks) <= 4
