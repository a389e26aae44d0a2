"""The tables as migrations make them: those that are declared, also after a migration that was interrupted."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from assets.store_sync import StoreSync
from resources.store import Store, StoreError, StoreUnavailableError, opened
from resources.store_tables import VIEWS, Base
from tests.store.values import GLUCOSE, add, expected, readings, stored


def differences(store: Store) -> list[object]:
    with store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def test_migrations_make_what_is_declared(store: Store):
    store.require_current()
    assert differences(store) == []
    with store._engine.connect() as connection:
        assert {*VIEWS} <= {*inspect(connection).get_view_names()}


def test_a_second_migration_changes_nothing(store: Store):
    store.migrate()
    assert differences(store) == []


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
