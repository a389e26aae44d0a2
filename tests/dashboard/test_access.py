"""Accounts: passwords, lock-outs, sessions and rights; and the audit trail that nobody can change."""

import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dashboard import access, users
from dashboard.access import MAX_PASSWORD, NOBODY, PasswordError, Role, Scope, Viewer, hashed, is_right
from dashboard.attempts import BROWSER_KNOWN, FREE_ATTEMPTS, LockedOutError
from dashboard.audit import SEVERAL, TOLD_APART, Audit
from dashboard.database import _VERSIONS, Database, DatabaseError
from dashboard.users import LONGEST_SESSION, Identity, User, UserError, Users

PASSWORD = "four words that nobody guesses"
IDLE = timedelta(minutes=30)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take no time; what they cost is looked at by a test of its own."""
    monkeypatch.setattr(access, "_COST", 2)
    monkeypatch.setattr(users, "NOBODY", NOBODY.replace(NOBODY.split("$")[1], "2", 1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "page.db")
    yield made
    made.close()


@pytest.fixture
def accounts(database: Database, clock: Clock) -> Users:
    made = Users(database, clock, IDLE)
    made.add(User("Nora", Role.CLINICIAN, Scope(frozenset({"north"}))), PASSWORD)
    return made


def test_a_password_is_kept_as_a_hash_that_costs_what_guessers_should_pay() -> None:
    assert NOBODY.startswith("scrypt$32768$8$3$")
    kept = hashed(PASSWORD)
    assert PASSWORD not in kept
    assert hashed(PASSWORD) != kept
    assert is_right(PASSWORD, kept)
    assert not is_right(PASSWORD + "x", kept)
    assert not is_right("", kept)
    assert not is_right("\ud800 half a pair", kept)


@pytest.mark.parametrize("password", ["", "eleven char", "x" * (MAX_PASSWORD + 1)])
def test_a_password_that_is_too_short_or_too_long_is_refused_without_being_repeated(password: str) -> None:
    with pytest.raises(PasswordError) as refused:
        hashed(password)
    assert not password or password not in str(refused.value)


def test_who_signs_in_gets_a_session_that_ends_when_nobody_is_there(accounts: Users, clock: Clock) -> None:
    token = accounts.sign_in("nora", PASSWORD)
    assert token is not None
    session = accounts.session(token)
    assert session is not None
    assert session.user.name == "Nora"
    for _ in range(3):
        clock.pass_(minutes=29)
        accounts.touch(session)
        assert accounts.session(token) is not None
    clock.pass_(minutes=31)
    assert accounts.session(token) is None


def test_no_session_lasts_longer_than_half_a_day(accounts: Users, clock: Clock) -> None:
    token = accounts.sign_in("Nora", PASSWORD)
    assert token is not None
    end = clock.now + LONGEST_SESSION
    while clock.now < end:
        session = accounts.session(token)
        assert session is not None
        accounts.touch(session)
        clock.pass_(minutes=20)
    assert accounts.session(token) is None


def test_the_database_has_neither_passwords_nor_tokens(accounts: Users, tmp_path: Path) -> None:
    token = accounts.sign_in("Nora", PASSWORD)
    assert token is not None
    text = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert token.encode() not in text
    assert PASSWORD.encode() not in text
    assert stat.S_IMODE((tmp_path / "page.db").stat().st_mode) == 0o600


def test_guessing_is_slowed_and_even_the_right_password_waits(accounts: Users, clock: Clock) -> None:
    for _ in range(FREE_ATTEMPTS):
        assert accounts.sign_in("Nora", "a wrong password") is None
    with pytest.raises(LockedOutError) as first:
        accounts.sign_in("NORA", PASSWORD)
    clock.now = first.value.until
    assert accounts.sign_in("Nora", "a wrong password") is None
    with pytest.raises(LockedOutError) as second:
        accounts.sign_in("Nora", PASSWORD)
    assert second.value.until - clock.now > first.value.until - clock.now
    clock.now = second.value.until
    assert accounts.sign_in("Nora", PASSWORD) is not None
    assert accounts.sign_in("Nora", "a wrong password") is None


def test_who_guesses_cannot_keep_the_owner_out_of_the_own_browser(accounts: Users, clock: Clock) -> None:
    assert accounts.sign_in("Nora", PASSWORD, "her browser") is not None
    for _ in range(3):
        for _ in range(FREE_ATTEMPTS):
            with suppress(LockedOutError):
                accounts.sign_in("Nora", "a wrong password", "another browser")
        assert accounts.sign_in("nora", PASSWORD, "her browser") is not None
        clock.pass_(minutes=1)
    # The guesser gains nothing by it: what was counted stays counted.
    for browser in ("", "another browser", "a third browser"):
        with pytest.raises(LockedOutError):
            accounts.sign_in("Nora", PASSWORD, browser)


def test_guesses_in_a_known_browser_are_as_few_as_anywhere(accounts: Users) -> None:
    accounts.add(User("mia", Role.ANALYST, Scope()), PASSWORD)
    assert accounts.sign_in("Nora", PASSWORD, "on the ward") is not None
    for _ in range(FREE_ATTEMPTS):
        assert accounts.sign_in("Nora", "a wrong password", "on the ward") is None
    with pytest.raises(LockedOutError):
        accounts.sign_in("Nora", PASSWORD, "on the ward")
    # It is known for her account, and for nobody else's.
    assert accounts.sign_in("Nora", PASSWORD) is not None
    for _ in range(FREE_ATTEMPTS):
        assert accounts.sign_in("mia", "a wrong password") is None
    with pytest.raises(LockedOutError):
        accounts.sign_in("mia", PASSWORD, "on the ward")


def test_a_browser_is_known_for_half_a_year_and_until_the_password_changes(accounts: Users, clock: Clock) -> None:
    def is_locked_out(browser: str, password: str = PASSWORD) -> bool:
        for _ in range(FREE_ATTEMPTS):
            with suppress(LockedOutError):
                accounts.sign_in("Nora", "a wrong password")
        try:
            return accounts.sign_in("Nora", password, browser) is None
        except LockedOutError:
            return True

    assert accounts.sign_in("Nora", PASSWORD, "hers") is not None
    clock.pass_(days=BROWSER_KNOWN.days - 1)
    assert not is_locked_out("hers")
    clock.pass_(days=BROWSER_KNOWN.days + 1)
    assert accounts.sign_in("Nora", PASSWORD, "another") is not None
    assert is_locked_out("hers")
    assert not is_locked_out("another")
    accounts.set_password("Nora", "another five words altogether")
    assert is_locked_out("another", "another five words altogether")


def test_who_changes_the_password_knows_the_old_one_and_is_the_only_one_left(accounts: Users) -> None:
    tokens = [accounts.sign_in("Nora", PASSWORD) for _ in range(2)]
    sessions = [accounts.session(token or "") for token in tokens]
    session = sessions[0]
    assert session is not None
    assert accounts.change_password(session, "a wrong password", "another five words altogether") is None
    with pytest.raises(PasswordError):
        accounts.change_password(session, PASSWORD, "short")
    assert [accounts.session(token or "") for token in tokens] == sessions
    token = accounts.change_password(session, PASSWORD, "another five words altogether")
    assert [accounts.session(each or "") for each in tokens] == [None, None]
    assert accounts.session(token or "") is not None
    assert accounts.sign_in("Nora", PASSWORD) is None
    assert accounts.sign_in("Nora", "another five words altogether") is not None


def test_who_finds_a_session_open_guesses_the_password_no_oftener_than_others(accounts: Users) -> None:
    session = accounts.session(accounts.sign_in("Nora", PASSWORD) or "")
    assert session is not None
    for _ in range(FREE_ATTEMPTS):
        assert accounts.change_password(session, "a wrong password", "another five words altogether") is None
    with pytest.raises(LockedOutError):
        accounts.change_password(session, PASSWORD, "another five words altogether")
    # That does not keep the owner out.
    assert accounts.sign_in("Nora", PASSWORD) is not None


@pytest.mark.parametrize("is_disabled", [False, True])
def test_a_password_that_is_replaced_while_it_is_looked_at_opens_nothing_any_more(
    accounts: Users, monkeypatch: pytest.MonkeyPatch, is_disabled: bool
) -> None:
    session = accounts.session(accounts.sign_in("Nora", PASSWORD) or "")
    nora = accounts.get("Nora")
    assert session is not None
    assert nora is not None

    def meanwhile(password: str, kept: str) -> bool:
        if is_disabled:
            accounts.change(replace(nora, is_disabled=True))
        else:
            accounts.set_password("Nora", "another five words altogether")
        return is_right(password, kept)

    with monkeypatch.context() as patch:
        patch.setattr(users, "is_right", meanwhile)
        assert accounts.sign_in("Nora", PASSWORD) is None
        accounts.change(nora)
        accounts.set_password("Nora", PASSWORD)
        assert accounts.change_password(session, PASSWORD, "the password of who had the old one") is None
    accounts.change(nora)
    assert accounts.sign_in("Nora", "the password of who had the old one") is None


def test_an_account_without_a_password_is_opened_by_none(accounts: Users) -> None:
    accounts.add(User("dora", Role.ANALYST, Scope(), identity=Identity("https://id.example", "7")), None)
    for password in ("", "-", PASSWORD):
        assert accounts.sign_in("dora", password) is None
    found = accounts.of(Identity("https://id.example", "7"))
    assert found is not None
    assert (found.name, found.has_password) == ("dora", False)
    accounts.set_password("dora", PASSWORD)
    assert accounts.sign_in("dora", PASSWORD) is not None


def test_two_accounts_are_not_bound_to_the_same(accounts: Users) -> None:
    identity = Identity("https://id.example", "7")
    accounts.bind("nora", identity)
    with pytest.raises(UserError, match="'Nora' already"):
        accounts.add(User("dora", Role.ANALYST, Scope(), identity=identity), None)
    accounts.add(User("dora", Role.ANALYST, Scope()), PASSWORD)
    with pytest.raises(UserError, match="'Nora' already"):
        accounts.bind("dora", identity)
    with pytest.raises(UserError, match="no account 'x'"):
        accounts.bind("x", None)
    accounts.bind("nora", None)
    accounts.bind("dora", identity)
    token = accounts.begin(identity)
    assert token is not None
    assert accounts.session(token) is not None
    accounts.bind("dora", None)
    assert accounts.session(token) is None
    assert accounts.begin(identity) is None


def test_a_file_of_an_earlier_version_is_taken_up_with_all_that_is_in_it(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("dashboard.database._VERSIONS", _VERSIONS[:1])
        old = Database(tmp_path / "old.db")
        with old.writing() as connection:
            connection.execute(
                "INSERT INTO users VALUES ('Nora', ?, 'clinician', '[\"north\"]', '[]', 0, 'mg/dL', 'UTC', 0, 0, 0)",
                (hashed(PASSWORD),),
            )
        old.close()
    for _ in range(2):
        new = Database(tmp_path / "old.db")
        assert Users(new, clock).sign_in("nora", PASSWORD, "a browser") is not None
        new.close()
    with monkeypatch.context() as earlier:
        earlier.setattr("dashboard.database._VERSIONS", _VERSIONS[:1])
        with pytest.raises(DatabaseError, match="later version"):
            Database(tmp_path / "old.db")


def test_many_guesses_at_once_are_no_more_than_one_after_the_other(accounts: Users) -> None:
    def guess(number: int) -> bool:
        try:
            accounts.sign_in("Nora", f"a wrong password {number}")
        except LockedOutError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(guess, range(40))) == FREE_ATTEMPTS


def test_an_attempt_does_not_look_through_all_others(accounts: Users, database: Database) -> None:
    accounts.sign_in("Nora", "a wrong password")
    plan = database.rows("EXPLAIN QUERY PLAN DELETE FROM attempts WHERE at < ?", 0.0)
    assert [row["detail"] for row in plan] == ["SEARCH attempts USING INDEX attempts_at (at<?)"]


def test_a_name_without_an_account_is_locked_like_one_with(accounts: Users) -> None:
    for _ in range(FREE_ATTEMPTS):
        assert accounts.sign_in("nobody", PASSWORD) is None
    with pytest.raises(LockedOutError):
        accounts.sign_in("nobody", PASSWORD)


def test_a_disabled_account_has_no_sessions_and_gets_none(accounts: Users) -> None:
    token = accounts.sign_in("Nora", PASSWORD)
    assert token is not None
    known, before = accounts.get("nora"), accounts.rights()
    assert known is not None
    accounts.change(replace(known, is_disabled=True))
    assert accounts.session(token) is None
    assert accounts.sign_in("Nora", PASSWORD) is None
    assert accounts.rights() != before


def test_another_password_ends_sessions_and_a_lock_out(accounts: Users) -> None:
    token = accounts.sign_in("Nora", PASSWORD)
    assert token is not None
    for _ in range(FREE_ATTEMPTS + 1):
        try:
            accounts.sign_in("Nora", "a wrong password")
        except LockedOutError:
            break
    accounts.set_password("Nora", "another five words altogether")
    assert accounts.session(token) is None
    assert accounts.sign_in("Nora", "another five words altogether") is not None


def test_other_processes_notice_a_change(accounts: Users, tmp_path: Path, clock: Clock) -> None:
    before = accounts.rights()
    elsewhere = Database(tmp_path / "page.db")
    Users(elsewhere, clock).add(User("mia", Role.ANALYST, Scope()), PASSWORD)
    elsewhere.close()
    assert accounts.rights() != before
    assert [user.name for user in accounts.all()] == ["mia", "Nora"]


def test_the_last_administrator_stays(accounts: Users) -> None:
    accounts.add(User("adam", Role.ADMINISTRATOR, Scope()), PASSWORD)
    adam = accounts.get("adam")
    assert adam is not None
    for changed in (replace(adam, is_disabled=True), replace(adam, role=Role.ANALYST)):
        with pytest.raises(UserError, match="only administrator"):
            accounts.change(changed)
    assert accounts.get("adam") == adam


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "<b>", "a'; DROP TABLE users; --", "ünal"])
def test_a_name_that_is_none_is_refused(accounts: Users, name: str) -> None:
    with pytest.raises(UserError):
        accounts.add(User(name, Role.ANALYST, Scope()), PASSWORD)


def test_nobody_gets_the_account_of_another_one(accounts: Users) -> None:
    with pytest.raises(UserError, match="already"):
        accounts.add(User("NORA", Role.ADMINISTRATOR, Scope()), PASSWORD)


def viewer(role: Role, visible: frozenset[int] | None) -> Viewer:
    return Viewer("x", role, "mg/dL", "UTC", frozenset(), visible)


def test_a_viewer_sees_their_patients_in_frames_too() -> None:
    frame = pl.DataFrame({"patient_id": [1, 2, None]})
    own = viewer(Role.CAREGIVER, frozenset({1}))
    assert frame.filter(own.sees(pl.col("patient_id")))["patient_id"].to_list() == [1]
    assert frame.filter(viewer(Role.CLINICIAN, None).sees(pl.col("patient_id"))).height == 3
    assert frame.filter(viewer(Role.CLINICIAN, frozenset()).sees(pl.col("patient_id"))).is_empty()
    assert (own.may_see(1), own.may_see(2)) == (True, False)


def test_an_administrator_is_a_clinician_only_where_patients_are_granted() -> None:
    assert not viewer(Role.ADMINISTRATOR, frozenset()).counts_as({Role.CLINICIAN})
    assert viewer(Role.ADMINISTRATOR, None).counts_as({Role.CLINICIAN})
    assert not viewer(Role.SAFETY_OFFICER, None).counts_as({Role.CLINICIAN})


def test_rows_of_the_audit_trail_are_only_added(database: Database, clock: Clock) -> None:
    audit = Audit(database, clock)
    audit.write("nora", "clinician", "view patient", "7", address="127.0.0.1")
    for statement in ("UPDATE audit SET who = 'x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError), database.writing() as connection:
            connection.execute(statement)
    assert [(row.who, row.what, row.subject) for row in audit.rows()] == [("nora", "view patient", "7")]


def test_a_commit_that_fails_leaves_the_file_usable(database: Database, clock: Clock) -> None:
    # The key of another table is looked at by the commit only.
    of_nobody = "INSERT INTO sessions (token, name, csrf, began_at, seen_at) VALUES ('t', 'x', 'c', 0, 0)"
    with pytest.raises(sqlite3.IntegrityError), database.writing() as connection:
        [connection.execute(each) for each in ("PRAGMA defer_foreign_keys = ON", of_nobody)]
    Audit(database, clock).write("nora", "clinician", "login")
    assert database.rows("SELECT * FROM sessions") == []


def test_old_rows_of_the_audit_trail_go_and_those_of_a_year_never(database: Database, clock: Clock) -> None:
    audit = Audit(database, clock)
    clock.pass_(days=-800)
    audit.write("old", "clinician", "login")
    clock.pass_(days=800)
    audit.write("new", "clinician", "login")
    assert audit.expire(timedelta(days=730)) == 1
    assert [row.who for row in audit.rows()] == ["new"]
    clock.pass_(days=300)
    with pytest.raises(sqlite3.IntegrityError):
        audit.expire(timedelta(days=1))


def failures(audit: Audit) -> int:
    """How many failures the rows of the audit trail tell."""
    counts = (re.search(r"(\d+) more within a minute", row.detail) for row in audit.rows(10_000))
    return sum(int(found[1]) if found else 1 for found in counts)


def test_equal_failures_of_a_minute_are_one_row_and_their_number(database: Database, clock: Clock) -> None:
    audit = Audit(database, clock)
    for _ in range(300):
        audit.fail("nora", "clinician", "login refused", "locked", "192.0.2.1")
        clock.pass_(seconds=0.1)
    audit.fail("nora", "clinician", "login failed", "", "192.0.2.1")
    assert [(row.who, row.what, row.detail) for row in audit.rows()] == [
        ("nora", "login failed", ""),
        ("nora", "login refused", "locked"),
    ]
    clock.pass_(seconds=31)
    audit.settle()
    newest = audit.rows()[0]
    assert (newest.who, newest.role, newest.what, newest.address) == (
        "nora",
        "clinician",
        "login refused",
        "192.0.2.1",
    )
    assert newest.detail.startswith("locked: 299 more within a minute from ")
    assert failures(audit) == 301
    audit.settle()
    assert failures(audit) == 301
    # A minute later it is told at once again.
    audit.fail("nora", "clinician", "login refused", "locked", "192.0.2.1")
    assert audit.rows()[0].detail == "locked"


def test_a_flood_from_everywhere_fills_no_disk_and_each_failure_is_counted(database: Database, clock: Clock) -> None:
    audit = Audit(database, clock)
    for number in range(3_000):
        who, role = (("nora", "clinician"), ("-", "-"))[number % 2]
        audit.fail(who, role, "login failed", f"OpenID Connect: {number}", f"192.0.2.{number}")
        clock.pass_(seconds=0.05)
    clock.pass_(minutes=1)
    audit.settle()
    rows = audit.rows(10_000)
    # In each of three minutes: those with rows of their own, and a number for each account.
    assert len(rows) == 3 * (TOLD_APART + 2)
    assert {row.who for row in rows if row.address == SEVERAL} == {"nora", "-"}
    assert failures(audit) == 3_000


def test_failures_that_were_counted_outlive_the_server_and_a_clock_that_is_set_back(
    tmp_path: Path, clock: Clock
) -> None:
    killed = Database(tmp_path / "page.db")
    for _ in range(7):
        Audit(killed, clock).fail("-", "-", "login failed", "", "192.0.2.1")
    shutil.copytree(tmp_path, tmp_path / "killed")
    killed.close()
    left = Database(tmp_path / "killed" / "page.db")
    clock.pass_(hours=-1)
    audit = Audit(left, clock)
    audit.settle()
    assert failures(audit) == 7
    left.close()


def test_who_was_turned_away_is_counted_without_writing(database: Database, clock: Clock) -> None:
    audit = Audit(database, clock)
    for _ in range(5):
        audit.turn_away()
    assert audit.rows() == []
    audit.settle()
    audit.settle()
    assert [row.detail for row in audit.rows()] == ["5 turned away, since too many signed in"]


def test_what_is_written_survives_though_another_process_closed_the_file_last(tmp_path: Path, clock: Clock) -> None:
    # Two in one process, as the command and its server have them.
    first, second = Database(tmp_path / "page.db"), Database(tmp_path / "page.db")
    command = "import sys; from dashboard.database import *; Database(Path(sys.argv[1])).close()"
    subprocess.run([sys.executable, "-c", command, str(tmp_path / "page.db")], check=True, timeout=300)
    Users(second, clock).add(User("Nora", Role.CLINICIAN, Scope()), PASSWORD)
    # A copy is what a kill leaves behind.
    shutil.copytree(tmp_path, tmp_path / "killed")
    left = Database(tmp_path / "killed" / "page.db")
    assert [user.name for user in Users(left, clock).all()] == ["Nora"]
    for each in (first, second, left):
        each.close()
