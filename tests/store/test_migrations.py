"""The tables as migrations make them: those that are declared, also after a migration that was interrupted."""

from datetime import datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import column, insert, inspect, table

from assets.notifications.transitions import encoded
from assets.store_sync import StoreSync
from resources.store import Store, StoreError, StoreUnavailableError, _alembic, opened
from resources.store_tables import VIEWS, Base
from tests.notifications.values import transition
from tests.services.mariadb import MariaDb
from tests.store.values import GLUCOSE, add, expected, readings, stored

older_notification = table(
    "notification",
    *map(column, ("alarm_id", "transition_index", "subscriber_id", "channel", "details", "severity_rank", "state")),
    *map(column, ("attempts", "created_at", "give_up_at")),
)


def differences(store: Store) -> list[object]:
    with store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def upgrade(store: Store, revision: str) -> None:
    with store._engine.execution_options(is_immediate=True).begin() as connection:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.service)])
def url_without_tables(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'older.db'}"
    server: MariaDb = request.getfixturevalue("mariadb")
    return server.url()


def test_migrations_make_what_is_declared(store: Store):
    store.require_current()
    assert differences(store) == []
    with store._engine.connect() as connection:
        assert {*VIEWS} <= {*inspect(connection).get_view_names()}


def test_a_second_migration_changes_nothing(store: Store):
    store.migrate()
    assert differences(store) == []


def test_a_store_of_the_first_version_keeps_its_rows(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(store, "0001")
    with pytest.raises(StoreError, match="is at migration 0001, and migration"):
        store.require_current()
    store.execute("INSERT INTO Patient (patient_id, full_name) VALUES (1, 'Patient 1')")
    store.migrate()
    assert differences(store) == []
    assert store.query("SELECT full_name FROM Patient") == [("Patient 1",)]
    store.close()


def test_notifications_of_an_older_store_stay_and_keep_their_kind(url_without_tables):
    store = Store(url_without_tables)
    upgrade(store, "0003")
    told = transition("a", 3, "worsened", severity="urgent")
    for number, details in ((1, encoded(told)), (2, "nonsense")):
        statement = insert(older_notification).values(
            alarm_id=f"a{number}",
            transition_index=3,
            subscriber_id=1,
            channel="A",
            details=details,
            severity_rank=3,
            state="sent",
            attempts=1,
            created_at=datetime(2026, 11, 1),
            give_up_at=datetime(2026, 11, 2),
        )
        store.apply(statement)
    store.migrate()
    assert differences(store) == []
    assert store.query("SELECT alarm_id, kind, state FROM notification ORDER BY alarm_id") == [
        ("a1", "worsened", "sent"),
        ("a2", "unknown", "sent"),
    ]
    assert store.query("SELECT notification_id, decision FROM notification ORDER BY 1") == [(1, 0), (2, 0)]
    store.close()


@pytest.mark.service
def test_a_migration_of_notifications_that_was_interrupted_goes_on(mariadb):
    store = Store(mariadb.url())
    upgrade(store, "0003")
    store.execute("ALTER TABLE notification ADD COLUMN kind VARCHAR(64) CHARACTER SET utf8mb4")
    store.execute(
        "ALTER TABLE notification ADD CONSTRAINT uq_notification_kind UNIQUE "
        "(alarm_id, transition_index, kind, severity_rank, subscriber_id, channel)"
    )
    store.migrate()
    assert differences(store) == []
    store.close()


@pytest.mark.service
def test_a_migration_of_the_key_of_notifications_that_was_interrupted_goes_on(mariadb):
    store = Store(mariadb.url())
    upgrade(store, "0004")
    store.execute("ALTER TABLE notification ADD COLUMN decision BIGINT NOT NULL DEFAULT 0")
    store.execute(
        "ALTER TABLE notification ADD CONSTRAINT uq_notification_decision UNIQUE "
        "(alarm_id, transition_index, kind, severity_rank, subscriber_id, channel, decision)"
    )
    store.migrate()
    assert differences(store) == []
    store.close()


@pytest.mark.service
def test_a_migration_that_was_interrupted_goes_on(mariadb):
    store = Store(mariadb.url())
    # MySQL commits each statement, so some of them may be there.
    for name in ("Patient", "GlucoseReadings"):
        store.recreate(name)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_GlucoseReadings_timestamp ON GlucoseReadings")
    store.migrate()
    assert differences(store) == []
    store.close()


def test_a_store_without_tables_is_refused_with_the_command_that_makes_them(tmp_path):
    url = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(StoreError, match=r"has no tables yet.*Run `pulselake oltp migrate`"):
        opened(url, is_own=False)
    opened(url, is_own=True).close()
    opened(url, is_own=False).close()


def test_a_dropped_table_is_told_and_made_again(store: Store, lake):
    add(lake, GLUCOSE, rows := readings(range(20)))
    sync = StoreSync(lake, store)
    sync.catch_up(GLUCOSE)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE GlucoseReadings")
    add(lake, GLUCOSE, more := readings(range(20, 30)))
    with pytest.raises(StoreError, match=r"missing.*pulselake oltp resync TABLE"):
        sync.catch_up(GLUCOSE)
    store.recreate("GlucoseReadings")
    store.forget("GlucoseReadings")
    sync.catch_up(GLUCOSE)
    assert stored(store) == expected(rows + more)
    assert differences(store) == []


@pytest.mark.service
def test_values_that_do_not_fit_are_refused_and_never_cut(emptied, lake):
    store = Store(emptied)
    [row] = readings([1])
    add(lake, GLUCOSE, [row | {"range_flag": "x" * 65}])
    with pytest.raises(StoreError, match="1 values did not fit into their columns, so nothing was written"):
        StoreSync(lake, store).catch_up(GLUCOSE)
    assert store.count("GlucoseReadings") == 0
    state = store.state("GlucoseReadings")
    assert state is not None
    assert state.offsets == {}
    store.close()


@pytest.mark.service
def test_where_the_server_reads_no_files_rows_are_sent(mariadb, emptied, lake):
    store = Store(emptied)
    add(lake, GLUCOSE, rows := readings(range(20)))
    store._engine.dispose()
    try:
        with store._engine.connect() as connection:
            connection.exec_driver_sql("SET GLOBAL local_infile = 0")
        store._engine.dispose()
        StoreSync(lake, store).catch_up(GLUCOSE)
        assert stored(store) == expected(rows)
        assert not store._may_load
    finally:
        with store._engine.connect() as connection:
            connection.exec_driver_sql("SET GLOBAL local_infile = 1")
        store.close()


def test_a_database_that_is_away_is_told(tmp_path):
    store = Store("mysql://root@127.0.0.1:1/health")
    with pytest.raises(StoreUnavailableError, match="Nothing is lost"):
        store.migrate()
