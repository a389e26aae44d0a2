"""The commands `pulselake web user …`."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dashboard.audit import Audit
from dashboard.database import page_database
from dashboard.users import Identity, Users
from orchestration.cli import app
from orchestration.web_cli import COMMAND, first_account
from resources.settings import Settings
from tests.dashboard.world import PASSWORD, now

pytestmark = pytest.mark.slow
"""Each password takes a third of a second."""


def web(
    home: Path, *arguments: str, typed: str = PASSWORD, code: int = 0, more: Mapping[str, str] | None = None
) -> Result:
    settings = {"PULSELAKE_HOME": str(home), "COLUMNS": "120"}
    done = CliRunner().invoke(app, ["web", "user", *arguments], input=f"{typed}\n", env=settings | dict(more or {}))
    assert done.exit_code == code, done.output
    return done


def test_an_account_is_made_listed_disabled_and_gets_another_password(tmp_path: Path) -> None:
    options = ("--role", "caregiver", "--patient", "7", "--unit", "mmol/L", "--zone", "Europe/Lisbon")
    made = web(tmp_path, "add", "carl", *options, "--password-stdin")
    assert PASSWORD not in made.output
    assert "patient 7" in web(tmp_path, "list").output
    assert "is disabled" in web(tmp_path, "disable", "carl").output
    assert "is active" in web(tmp_path, "enable", "CARL").output
    web(tmp_path, "password", "carl", "--password-stdin", typed="another five words altogether")
    database = page_database(tmp_path)
    assert Users(database, now).sign_in("carl", "another five words altogether") is not None
    rows = Audit(database, now).rows()
    database.close()
    assert [row.what for row in rows[::-1]] == ["add account", "change rights", "change rights", "change password"]
    assert {(row.role, row.subject) for row in rows} == {(COMMAND, "carl")}


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (("add", "x", "--role", "king"), PASSWORD, "There is no role 'king'"),
        (("add", "x", "--unit", "g/L"), PASSWORD, "mmol/L"),
        (("add", "x", "--zone", "Mars/Base"), PASSWORD, "IANA"),
        (("add", "a b", "--password-stdin"), PASSWORD, "Choose another name"),
        (("add", "x", "--password-stdin"), "short", "12 to 200"),
        (("disable", "nobody"), "", "There is no account 'nobody'"),
        (("password", "nobody", "--password-stdin"), PASSWORD, "There is no account 'nobody'"),
    ],
)
def test_what_is_wrong_changes_nothing_and_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], typed: str, said: str
) -> None:
    told = " ".join(web(tmp_path, *arguments, typed=typed, code=1).output.split())
    assert said in told
    assert "nothing was changed" in told


def test_an_account_is_bound_to_somebody_of_the_provider(tmp_path: Path) -> None:
    provider = {"PULSELAKE_OIDC_ISSUER": "https://id.example", "PULSELAKE_OIDC_CLIENT_ID": "page"}
    told = " ".join(web(tmp_path, "add", "dora", "--oidc", "7", code=1).output.split())
    assert "nothing was changed. Set PULSELAKE_OIDC_ISSUER first" in told
    web(tmp_path, "add", "dora", "--oidc", "7", typed="", more=provider)
    database = page_database(tmp_path)
    dora = Users(database, now).of(Identity("https://id.example", "7"))
    assert dora is not None
    assert (dora.name, dora.has_password) == ("dora", False)
    web(tmp_path, "bind", "dora", "8", more=provider)
    assert " 8 " in web(tmp_path, "list").output
    web(tmp_path, "unbind", "dora")
    assert Users(database, now).of(Identity("https://id.example", "8")) is None
    rows = [(row.what, row.subject, row.detail) for row in Audit(database, now).rows()]
    database.close()
    assert rows[:2] == [("change sign-in", "dora", "bound to nobody"), ("change sign-in", "dora", "8")]


def test_the_first_account_is_made_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, _env_file=None)
    password = first_account(settings)
    assert password is not None
    assert first_account(settings) is None
    database = page_database(tmp_path)
    assert Users(database, now).sign_in("admin", password) is not None
    database.close()
