"""What exactly-once rests on in Delta Lake's Python library."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import RemoveAction

from resources.copies import Copies, remove_folder

pytestmark = pytest.mark.contract

ROWS = pl.DataFrame({"day": ["a", "b"], "value": [1, 2]})


def transaction(version: int, app: str = "stream/0", **metadata: str) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(app, version)], custom_metadata=metadata or None)


def new_table(folder: Path) -> str:
    write_deltalake(str(folder), ROWS, partition_by=["day"], commit_properties=transaction(5))
    return str(folder)


def test_the_version_of_an_unknown_application_is_none_and_zero_is_a_version(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    write_deltalake(table, ROWS, mode="append", commit_properties=transaction(0, "other"))
    delta = DeltaTable(table)
    assert [delta.transaction_version(app) for app in ("stream/0", "other", "unknown")] == [5, 0, None]


def test_a_replayed_transaction_is_accepted_so_that_the_writer_has_to_compare(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    for version in (5, 3):
        write_deltalake(table, ROWS, mode="append", commit_properties=transaction(version))
    delta = DeltaTable(table)
    assert (delta.transaction_version("stream/0"), delta.count()) == (3, 6)


def test_a_handle_that_is_behind_may_not_commit_the_same_application(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    stale, other = DeltaTable(table), DeltaTable(table)
    write_deltalake(other, ROWS, mode="append", commit_properties=transaction(6))
    with pytest.raises(CommitFailedError, match=r"[Cc]oncurrent transaction"):
        write_deltalake(stale, ROWS, mode="append", commit_properties=transaction(6))
    assert DeltaTable(table).count() == 4


def test_a_handle_that_is_behind_may_append_for_another_application(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    stale, other = DeltaTable(table), DeltaTable(table)
    write_deltalake(other, ROWS, mode="append", commit_properties=transaction(6))
    write_deltalake(stale, ROWS, mode="append", commit_properties=transaction(1, "stream/1"))
    assert DeltaTable(table).count() == 6


def test_a_replaced_partition_conflicts_with_an_append_that_names_the_same_application(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    stale, other = DeltaTable(table), DeltaTable(table)
    write_deltalake(other, ROWS, mode="append", commit_properties=transaction(6))
    with pytest.raises(CommitFailedError):
        write_deltalake(stale, ROWS.head(1), mode="overwrite", predicate="day = 'a'", commit_properties=transaction(5))


def test_a_replaced_partition_lets_an_append_to_another_partition_pass(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    stale = DeltaTable(table)
    write_deltalake(table, ROWS.tail(1), mode="append", commit_properties=transaction(6))
    write_deltalake(stale, ROWS.head(1), mode="overwrite", predicate="day = 'a'")
    delta = DeltaTable(table)
    assert (delta.transaction_version("stream/0"), delta.count()) == (6, 3)


def test_an_empty_append_commits_its_transactions(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    write_deltalake(table, ROWS.clear(), mode="append", commit_properties=transaction(9))
    delta = DeltaTable(table)
    assert (delta.transaction_version("stream/0"), delta.count(), delta.version()) == (9, 2, 1)


def test_transactions_survive_replacing_compacting_checkpoint_clean_up_and_vacuum(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    for value in range(3):
        write_deltalake(table, ROWS.with_columns(value=pl.lit(value, pl.Int64)), mode="append")
    write_deltalake(table, ROWS.head(1), mode="overwrite", predicate="day = 'a'")
    delta = DeltaTable(table)
    delta.optimize.compact()
    delta.create_checkpoint()
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 hours"})
    delta.cleanup_metadata()
    delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert DeltaTable(table).transaction_version("stream/0") == 5


def test_rows_that_do_not_satisfy_the_predicate_are_refused(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    with pytest.raises(DeltaError):
        write_deltalake(table, ROWS, mode="overwrite", predicate="day = 'a'")
    assert DeltaTable(table).count() == 2


def test_an_error_while_rows_are_made_commits_nothing(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    good = ROWS.head(1).to_arrow(compat_level=pl.CompatLevel.oldest())

    def batches() -> Iterator[pa.RecordBatch]:
        yield from good.to_batches()
        raise OSError("the source went away")

    with pytest.raises(Exception, match="the source went away"):
        write_deltalake(table, pa.RecordBatchReader.from_batches(good.schema, batches()), mode="append")
    assert (DeltaTable(table).version(), DeltaTable(table).count()) == (0, 2)


def test_custom_metadata_stands_in_the_history_beside_the_version(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    write_deltalake(table, ROWS, mode="append", commit_properties=transaction(6, event_dates="2026-11-23"))
    assert [(commit["version"], commit.get("event_dates")) for commit in DeltaTable(table).history(5)] == [
        (1, "2026-11-23"),
        (0, None),
    ]


def test_a_history_ends_where_the_log_was_cleaned_up(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    for _ in range(3):
        write_deltalake(table, ROWS, mode="append")
    DeltaTable(table).create_checkpoint()
    for version in range(3):
        (tmp_path / "_delta_log" / f"{version:020}.json").unlink()
    assert [commit["version"] for commit in DeltaTable(table).history(10)] == [3]


def test_a_number_with_decimals_is_cut_without_a_word_in_a_column_of_integers(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    write_deltalake(table, pl.DataFrame({"day": ["a"], "value": [2.9]}), mode="append")
    assert pl.read_delta(table)["value"].to_list().count(2) == 2


def test_columns_are_matched_by_name_whatever_their_order(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    turned = pl.DataFrame({"value": [7], "day": ["a"]})
    write_deltalake(table, turned, mode="append")
    assert pl.read_delta(table).filter(value=7).rows() == [("a", 7)]
    write_deltalake(table, turned, mode="overwrite", predicate="day = 'a'")
    assert sorted(pl.read_delta(table).rows()) == [("a", 7), ("b", 2)]


@pytest.mark.parametrize("rows", [ROWS.select("day"), ROWS.with_columns(more=1)], ids=["one less", "one more"])
def test_another_number_of_columns_is_refused(tmp_path: Path, rows: pl.DataFrame) -> None:
    table = new_table(tmp_path)
    with pytest.raises(SchemaMismatchError):
        write_deltalake(table, rows, mode="append")


def test_a_column_can_be_added_twice_and_old_rows_have_null(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    for _ in range(2):
        DeltaTable(table).alter.add_columns(Field("more", PrimitiveType("double")))
    assert pl.scan_delta(DeltaTable(table)).select("value", "more").sort("value").collect().rows() == [
        (1, None),
        (2, None),
    ]


def of_the_columns(delta: DeltaTable) -> None:
    delta.alter.add_columns(Field("more", PrimitiveType("double")))


def of_the_properties(delta: DeltaTable) -> None:
    delta.alter.set_table_properties({"pulselake.sweptAt": "today"}, raise_if_not_exists=False)


@pytest.mark.parametrize("change", [of_the_columns, of_the_properties])
def test_a_change_of_a_table_refuses_every_commit_that_was_begun_before(
    tmp_path: Path, change: Callable[[DeltaTable], None]
) -> None:
    table = new_table(tmp_path)
    stale = [DeltaTable(table) for _ in range(4)]
    change(DeltaTable(table))
    commits: list[Callable[[DeltaTable], object]] = [
        lambda delta: write_deltalake(delta, ROWS, mode="append"),
        lambda delta: write_deltalake(delta, ROWS.head(1), mode="overwrite", predicate="day = 'a'"),
        lambda delta: delta.delete("day = 'a'"),
        change,
    ]
    for commit, delta in zip(commits, stale, strict=True):
        with pytest.raises(CommitFailedError, match="Metadata changed"):
            commit(delta)
    assert DeltaTable(table).version() == 1


def test_a_handle_that_is_behind_the_log_may_not_commit(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    stale = DeltaTable(table)
    for _ in range(3):
        write_deltalake(table, ROWS, mode="append")
    DeltaTable(table).create_checkpoint()
    for version in range(3):
        (tmp_path / "_delta_log" / f"{version:020}.json").unlink()
    with pytest.raises(DeltaError, match=r"^Invalid table version"):
        write_deltalake(stale, ROWS, mode="append")
    assert DeltaTable(table).version() == 3


def test_replaced_columns_keep_transactions_and_properties(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    of_the_properties(DeltaTable(table))
    rows = pl.DataFrame({"value": [1.5], "hour": [3]})
    write_deltalake(table, rows, mode="overwrite", schema_mode="overwrite", partition_by=["hour"])
    delta = DeltaTable(table)
    assert (delta.transaction_version("stream/0"), delta.metadata().partition_columns) == (5, ["hour"])
    assert delta.metadata().configuration == {"pulselake.sweptAt": "today"}
    assert pl.read_delta(table).rows() == rows.rows()


def test_a_table_that_is_not_there_is_told_apart_from_other_errors(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError):
        DeltaTable(str(tmp_path / "none"))


def test_names_of_files_are_percent_encoded(tmp_path: Path) -> None:
    table = new_table(tmp_path / "a b")
    assert all("a%20b" in uri for uri in DeltaTable(table).file_uris())


def test_files_of_another_table_are_copied_and_put_in_the_place_of_a_tables_own(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_deltalake(old, ROWS, partition_by=["day"], commit_properties=transaction(1, "sender"))
    other = ROWS.with_columns(pl.col("value") + 0.5, at=pl.lit(datetime(2026, 1, 1, 1, 2, 3, 456_789, tzinfo=UTC)))
    write_deltalake(new, other, partition_by=["day"])
    table, stale = DeltaTable(old), DeltaTable(old)
    copies = Copies(str(new), str(old), {})
    files = copies.of(DeltaTable(new))
    assert copies.of(DeltaTable(new)) == files, "what was copied is not copied again"
    replaced = DeltaTable(new).schema()
    table.create_write_transaction(files, "overwrite", replaced, ["day"], commit_properties=transaction(2, "sender"))
    swapped = DeltaTable(old)
    assert pl.scan_delta(swapped).sort("value").collect().equals(other.sort("value"))
    assert swapped.transaction_version("sender") == 2
    statistics = ["num_records", "max.value", "min.value", "null_count.value", "max.at"]
    ours, theirs = (pl.DataFrame(each.get_add_actions(flatten=True)) for each in (swapped, DeltaTable(new)))
    assert ours.select(statistics).sort("max.value").equals(theirs.select(statistics).sort("max.value"))
    with pytest.raises(CommitFailedError):
        stale.create_write_transaction(
            files, "overwrite", replaced, ["day"], commit_properties=transaction(3, "sender")
        )
    remove_folder(str(new), {})
    remove_folder(str(new / "nothing"), {})
    assert not any(new.rglob("*.parquet"))
    assert pl.scan_delta(DeltaTable(old)).collect().height == other.height


def removal(table: str, day: str, *, is_change: bool) -> Callable[[DeltaTable], object]:
    """Removes the files that a day has now."""
    files = pl.DataFrame(DeltaTable(table).get_add_actions(flatten=True)).filter(pl.col("partition.day") == day)
    actions = [
        RemoveAction(path, is_change, 0, size, {"day": day}) for path, size in files["path", "size_bytes"].iter_rows()
    ]
    return lambda delta: delta.create_write_transaction([*actions], "append", delta.schema(), ["day"])


def test_files_are_removed_by_name_and_what_came_later_stays(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    remove, stale = removal(table, "a", is_change=False), DeltaTable(table)
    write_deltalake(table, ROWS, mode="append")
    remove(stale)
    assert pl.scan_delta(table).collect()["day"].sort().to_list() == ["a", "b", "b"]
    assert DeltaTable(table).transaction_version("stream/0") == 5


@pytest.mark.parametrize("is_change", [True, False])
def test_a_removal_refuses_an_append_that_began_before_it_only_where_it_changes_data(
    tmp_path: Path, is_change: bool
) -> None:
    table = new_table(tmp_path)
    stale = DeltaTable(table)
    removal(table, "a", is_change=is_change)(DeltaTable(table))
    if is_change:
        with pytest.raises(CommitFailedError, match="deleted data this operation read"):
            write_deltalake(stale, ROWS, mode="append")
    else:
        write_deltalake(stale, ROWS, mode="append")
    assert DeltaTable(table).count() == (1 if is_change else 3)


def test_a_removal_of_files_that_were_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    table = new_table(tmp_path)
    remove, stale = removal(table, "a", is_change=False), DeltaTable(table)
    write_deltalake(table, ROWS.head(1), mode="overwrite", predicate="day = 'a'")
    with pytest.raises(CommitFailedError):
        remove(stale)
    assert DeltaTable(table).count() == 2
