"""Expired ingest dates are archived, removed and recorded, whatever happens meanwhile, and nothing else suffers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pytest

from assets import retention as retention_module
from assets.archived import DELETED, PREPARED, RESTORED, ArchivedError, Record, archived, records
from assets.glucose.assets import CONTRACT, GOLD
from assets.gold import DailyGold
from assets.retention import RESTORED_FOR, Due, Retention, restore, verify
from assets.stream.checks import evaluate
from assets.stream.rebuild import days_to_replay, rebuild
from assets.stream.rederive import derive, swap
from assets.stream.store import StreamStore
from resources import archive as archive_module
from resources import parts as parts_module
from resources.archive import Archive, ArchiveError
from resources.lake import ConcurrentWriteError, Lake, LakeTable
from resources.table import Table
from tests.services.azurite import ACCOUNT, Azurite
from tests.stream.hubs import MemoryHub
from tests.stream.scenarios import NOON, body, lake_in, reading, run_session, ticking, troubled_bodies
from tests.stream.tables import everything
from tests.stream.test_outlet import NOT_WAITING, AwayPublisher

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
AFTER = (0, 1, 4)
DAYS = [NOON.date() + number * DAY for number in AFTER]
OLD, LATER, NEWEST = DAYS
NOW = NOON + 100 * DAY
EVERYTHING = dict.fromkeys(("bronze", "silver", "quarantine", "alerts"), 90)
LAYERS = tuple(EVERYTHING)


def three_days(lake: Lake) -> MemoryHub:
    """Readings of each of three days, some of them repeated, late or malformed, and some that raise alerts."""
    hub = MemoryHub(partitions=2)
    for number in AFTER:
        own = [body(reading(1440 * number + minutes, 90 + 9 * minutes)) for minutes in range(20)]
        bodies = [*own, own[0], b"not json", *troubled_bodies(40, seed=number, start=NOON + (number - 0.3) * DAY)]
        for partition in (0, 1):
            hub.send(bodies[partition::2], NOON + number * DAY, partition)
        run_session(lake, hub, clock=ticking(NOON + number * DAY))
    return hub


def archive_in(folder: Path) -> Archive:
    return Archive(Lake(str(folder / "archive")))


def retention(
    lake: Lake, archive: Archive | None, keep: dict[str, int] | None = None, now: datetime = NOW
) -> Retention:
    return Retention(CONTRACT, lake, archive, EVERYTHING if keep is None else keep, ticking(now))


def retire_all(lake: Lake, archive: Archive | None, keep: dict[str, int] | None = None, now: datetime = NOW) -> None:
    run = retention(lake, archive, keep, now)
    run.finish()
    for due in run.due():
        assert run.held(due) is None
        run.retire(due)


def table_of(lake: Lake, layer: str) -> LakeTable:
    return lake.table(CONTRACT.tables[layer])


def stored(lake: Lake, layer: str, day: date) -> pl.DataFrame:
    return table_of(lake, layer).scan().filter(pl.col("ingest_date") == day).collect()


def in_archive(archive: Archive, layer: str, day: date) -> pl.DataFrame:
    """What anyone finds with Polars, without the code of the archive."""
    folder = Path(archive.root) / layer / CONTRACT.stream / f"ingest_date={day}"
    return pl.read_parquet(folder / "*.parquet") if any(folder.glob("*.parquet")) else stored_none(layer)


def stored_none(layer: str) -> pl.DataFrame:
    return pl.DataFrame(schema=CONTRACT.tables[layer].schema)


def same_rows(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    return left.schema == right.schema and Counter(left.rows()) == Counter(right.rows())


def steps(lake: Lake, layer: str, day: date) -> list[str]:
    return [each.step for each in records(lake, f"{layer}/{CONTRACT.stream}") if each.ingest_date == day]


def test_expired_dates_are_archived_removed_and_recorded_and_sessions_go_on(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    hub = three_days(lake)
    before = {(layer, day): stored(lake, layer, day) for layer in LAYERS for day in DAYS}
    store = StreamStore(CONTRACT, lake)
    store.look()
    offsets = {layer: store.offsets(layer) for layer in LAYERS}
    retire_all(lake, archive)
    for (layer, day), rows in before.items():
        if day == NEWEST:
            assert same_rows(stored(lake, layer, day), rows)
            assert steps(lake, layer, day) == []
            continue
        assert rows.height
        assert stored(lake, layer, day).is_empty()
        assert same_rows(in_archive(archive, layer, day), rows)
        assert steps(lake, layer, day) == [PREPARED, DELETED]
        record = archived(lake, table_of(lake, layer))[day]
        assert record.rows == rows.height
        assert record.readings == (int(rows["reading_count"].sum()) if layer == "bronze" else None)
        has_dates = layer in ("silver", "alerts")
        assert record.event_dates == (tuple(rows["event_date"].unique().sort()) if has_dates else None)
    assert [each.problem for each in verify(lake, archive)] == [""] * 8
    store.look()
    assert {layer: store.offsets(layer) for layer in LAYERS} == offsets
    hub.send([body(reading(4000, 100))], NOON + 6 * DAY)
    assert run_session(lake, hub, clock=ticking(NOON + 6 * DAY)).events == 1


def test_only_what_is_named_expires_a_table_before_its_layer(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    assert retention(lake, None, {}).due() == []
    assert retention(lake, None, {"bronze": 101}).due() == []
    found = retention(lake, None, {"bronze": 99, "silver": 1000, f"silver/{CONTRACT.stream}": 100}).due()
    assert [(each.role, each.day) for each in found] == [("bronze", OLD), ("silver", OLD), ("bronze", LATER)]
    assert [each.rows for each in found] == [stored(lake, each.role, each.day).height for each in found]


def test_without_an_archive_rows_are_counted_and_removed(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    rows = stored(lake, "quarantine", OLD)
    retire_all(lake, None, {"quarantine": 90})
    record = archived(lake, table_of(lake, "quarantine"))[OLD]
    assert (record.rows, record.manifest, len(record.checksum)) == (rows.height, None, 32)
    with pytest.raises(ArchivedError, match="no archive of 2026-11-23 is recorded"):
        restore(lake, archive_in(tmp_path), table_of(lake, "quarantine"), OLD, NOW)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Kill:
    """Ends the process before or after the given call of a function."""

    original: Callable[..., Any]
    is_after: bool
    call: int = 1

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.call -= 1
        if self.call == 0 and not self.is_after:
            raise Killed
        found = self.original(*arguments, **options)
        if self.call == 0:
            raise Killed
        return found


def kill(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, is_after: bool, call: int = 1) -> None:
    kill = Kill(getattr(owner, name), is_after, call)

    def called(*arguments: Any, **options: Any) -> Any:
        return kill(*arguments, **options)

    monkeypatch.setattr(owner, name, called)


POINTS = {
    "while the first file is written": (archive_module._Output, "write", False, 2),
    "after the files, before the manifest": (Archive, "_output", False, 2),
    "after the manifest": (Archive, "write", True, 1),
    "while it is read back": (Archive, "_digest", False, 1),
    "before the first record": (retention_module, "add_record", False, 1),
    "after the first record": (retention_module, "add_record", True, 1),
    "before the removal": (LakeTable, "remove", False, 1),
    "after the removal": (LakeTable, "remove", True, 1),
    "before the second record": (retention_module, "add_record", False, 2),
    "after the second record": (retention_module, "add_record", True, 2),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_was_killed_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    before = {(layer, day): stored(lake, layer, day) for layer in LAYERS for day in DAYS}
    owner, name, is_after, call = POINTS[point]
    with monkeypatch.context() as patched:
        kill(patched, owner, name, is_after=is_after, call=call)
        with pytest.raises(Killed):
            retire_all(lake, archive)
    retire_all(lake, archive)
    retire_all(lake, archive)
    for layer in LAYERS:
        for day in (OLD, LATER):
            assert stored(lake, layer, day).is_empty()
            assert same_rows(in_archive(archive, layer, day), before[layer, day])
            assert len(archive.manifests(f"{layer}/{CONTRACT.stream}", day)) == 1
            assert steps(lake, layer, day)[-1] == DELETED
            assert steps(lake, layer, day).count(DELETED) == 1
        assert same_rows(stored(lake, layer, NEWEST), before[layer, NEWEST])
    assert {each.problem for each in verify(lake, archive)} == {""}


def test_an_archive_that_reads_back_otherwise_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    before = everything(lake)
    write = Archive.write

    def damaged(self: Archive, *arguments: Any) -> Any:
        written = write(self, *arguments)
        file = Path(self.root) / written.folder / written.manifest.files[0].name
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        return written

    monkeypatch.setattr(Archive, "write", damaged)
    with pytest.raises(ArchiveError, match="No row was deleted"):
        retire_all(lake, archive)
    assert everything(lake) == before
    monkeypatch.undo()
    retire_all(lake, archive, now=NOW + 2 * DAY)
    assert {each.problem for each in verify(lake, archive)} == {""}
    assert [len(archive.manifests(f"{layer}/{CONTRACT.stream}", OLD)) for layer in LAYERS] == [1, 1, 1, 1]


def test_rows_that_come_to_a_date_meanwhile_are_archived_before_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    silver = table_of(lake, "silver")
    late = stored(lake, "silver", OLD).head(1).with_columns(sequence_number=pl.lit(10**6, pl.Int64))
    before = pl.concat([stored(lake, "silver", OLD), late])
    remove = LakeTable.remove

    def overtaken(self: LakeTable, *arguments: Any, **options: Any) -> None:
        silver.append(late, transactions={})
        remove(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LakeTable, "remove", overtaken)
        with pytest.raises(ConcurrentWriteError, match=r"silver/.*2026-11-23 are not those of version.*try again"):
            retire_all(lake, archive, {"silver": 90})
    assert same_rows(stored(lake, "silver", OLD), before)
    assert archived(lake, silver) == {}
    retire_all(lake, archive, {"silver": 90}, now=NOW + 2 * DAY)
    assert stored(lake, "silver", OLD).is_empty()
    assert same_rows(in_archive(archive, "silver", OLD), before.select(stored_none("silver").columns))
    assert archived(lake, silver)[OLD].rows == before.height


@dataclass
class Overtaken(LakeTable):
    """A table in which something happens just after it was opened for the first time."""

    event: Callable[[], object] | None = None

    def delta(self, version: int | None = None) -> Any:
        opened = super().delta(version)
        event, self.event = self.event, None
        if event:
            event()
        return opened


def test_a_session_that_commits_while_rows_are_removed_is_not_refused(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    for layer in LAYERS:
        table = table_of(lake, layer)
        row = stored(lake, layer, NEWEST).head(1)
        late = Overtaken(table.table, table.uri, lake, partial(retire_all, lake, archive, {layer: 90}))
        known = table.transactions([f"{CONTRACT.stream}/0"])
        assert late.append(row, transactions={f"{CONTRACT.stream}/0": 10**6}, expected=known) == 1
        assert stored(lake, layer, OLD).is_empty()


def gold_tables() -> list[DailyGold]:
    return [gold for gold in GOLD if isinstance(gold, DailyGold)]


def refreshed(lake: Lake) -> dict[str, pl.DataFrame]:
    for gold in gold_tables():
        if due := list(gold.pending(lake)):
            gold.refresh(lake, due)
    return {gold.table.name: lake.table(gold.table).scan().collect() for gold in gold_tables()}


def test_gold_of_archived_dates_stays_and_is_not_made_anew(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    hub = three_days(lake)
    before = refreshed(lake)
    retire_all(lake, archive)
    late = [body(reading(5, 333, patient=77)), body(reading(1440 * 6, 120))]
    hub.send(late, NOON + 6 * DAY)
    run_session(lake, hub, clock=ticking(NOON + 6 * DAY))
    closed = {day for each in archived(lake, table_of(lake, "silver")).values() for day in each.event_dates or ()}
    assert OLD in closed
    for gold in gold_tables():
        assert closed.isdisjoint(gold.pending(lake))
        assert gold.pending(lake), "the new date is made"
        with pytest.raises(ArchivedError, match=r"2026-11-23 cannot be made anew.*archive restore"):
            gold.refresh(lake, [OLD])
    after = refreshed(lake)
    for name, rows in before.items():
        of_closed = pl.col("event_date").is_in(sorted(closed))
        assert rows.filter(of_closed).height
        assert same_rows(after[name].filter(of_closed), rows.filter(of_closed))
    assert {gold.table.name: gold.pending(lake) for gold in gold_tables()} == {name: {} for name in before}


def widened(gold: DailyGold, *, is_retyped: bool = False) -> DailyGold:
    """The gold table with one column more, or with another type of a column."""
    columns: dict[str, Any] = {"more": dy.Int64(nullable=True)}
    name = next(name for name, type_ in gold.table.schema.items() if type_ == pl.Int64 and name != "patient_id")
    if is_retyped:
        columns[name] = dy.Float64(nullable=True)
    rows = type("Widened", (gold.table.rows,), columns)
    table = Table(gold.table.name, rows, gold.table.partition_by)

    def combine(slots: pl.DataFrame, dates: Any) -> pl.DataFrame:
        made = gold.combine(slots, dates).with_columns(more=pl.lit(1, pl.Int64))
        return made.cast({name: table.schema[name]}).select(table.schema.names())

    return replace(gold, table=table, combine=combine)


def test_new_columns_of_gold_are_null_in_archived_dates_and_other_changes_are_refused(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    before = refreshed(lake)
    retire_all(lake, archive)
    for gold in gold_tables():
        wrong = widened(gold, is_retyped=True)
        due = list(wrong.pending(lake))
        with pytest.raises(ArchivedError, match=r"in the contract.*cannot be made anew.*Only add nullable columns"):
            wrong.refresh(lake, due)
        more = widened(gold)
        due = list(more.pending(lake))
        assert due
        more.refresh(lake, due)
        rows = lake.table(more.table).scan().collect()
        assert same_rows(rows.drop("more"), before[gold.table.name])
        assert rows.filter(pl.col("more").is_null())["event_date"].is_in([OLD, LATER]).any()
        assert rows.filter(pl.col("more") == 1)["event_date"].unique().sort().to_list() == sorted(
            set(due) & set(rows["event_date"])
        )
        assert more.pending(lake) == {}


def test_a_rebuild_of_an_archived_date_is_refused_until_bronze_is_back(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    streamed, gold = everything(lake), refreshed(lake)
    retire_all(lake, archive)
    remedy = r"bronze/glucose_readings: .*2026-11-23 were removed.*Nothing was written.*archive restore bronze/gluc"
    with pytest.raises(ArchivedError, match=remedy):
        rebuild(CONTRACT, lake, OLD)
    for day in (OLD, LATER):
        assert restore(lake, archive, table_of(lake, "bronze"), day, NOW).step == RESTORED
        with pytest.raises(ArchivedError, match="has rows"):
            restore(lake, archive, table_of(lake, "bronze"), day, NOW)
        told: list[pl.DataFrame] = []
        rebuild(CONTRACT, lake, day, told.append)
        assert told == [], "what was stored before is not known: nothing is published twice"
    assert everything(lake) == streamed
    assert {name: rows.sort(rows.columns).rows() for name, rows in refreshed(lake).items()} == {
        name: rows.sort(rows.columns).rows() for name, rows in gold.items()
    }
    kept = retention(lake, archive, {"bronze": 90}, NOW + RESTORED_FOR - DAY).due()
    assert kept == [], "rows that were put back stay for a while"
    retire_all(lake, archive, now=NOW + RESTORED_FOR + DAY)
    assert len(archive.manifests("bronze/glucose_readings", OLD)) == 1, "the same rows are archived once"
    assert steps(lake, "bronze", OLD) == [PREPARED, DELETED, RESTORED, PREPARED, DELETED]


def test_silver_that_is_put_back_opens_its_dates_again(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    hub = three_days(lake)
    refreshed(lake)
    retire_all(lake, archive, {"silver": 90})
    hub.send([body(reading(5, 333, patient=77))], NOON + 6 * DAY)
    run_session(lake, hub, clock=ticking(NOON + 6 * DAY))
    assert 77 not in refreshed(lake)["gold/glucose_daily"]["patient_id"]
    for day in (OLD, LATER):
        restore(lake, archive, table_of(lake, "silver"), day, NOW)
    assert 77 in refreshed(lake)["gold/glucose_daily"]["patient_id"]


def test_a_rederive_is_refused_where_it_would_lose_rows_and_leaves_out_what_is_gone_everywhere(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    before = everything(lake)
    retire_all(lake, archive, {"bronze": 90})
    with pytest.raises(ArchivedError, match="2 ingest dates from 2026-11-23 to 2026-11-24 were removed"):
        derive(CONTRACT, lake)
    assert {**everything(lake), "bronze": []} == {**before, "bronze": []}
    retire_all(lake, archive)
    derive(CONTRACT, lake)
    swap(CONTRACT, lake)
    newest = [row for row in everything(lake)["silver"] if row["ingest_date"] == NEWEST]
    assert {row["ingest_date"] for row in everything(lake)["silver"]} == {NEWEST}
    assert len(newest) >= len([row for row in before["silver"] if row["ingest_date"] == NEWEST])


def test_quarantine_whose_events_are_archived_is_not_replayed(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    retire_all(lake, archive, {"bronze": 90})
    assert days_to_replay(CONTRACT, lake) == []


@pytest.mark.parametrize("expiring", [["bronze"], ["silver"], ["quarantine", "alerts"], list(LAYERS)])
def test_checks_of_archived_dates_count_what_was_archived(tmp_path: Path, expiring: list[str]) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    store = StreamStore(CONTRACT, lake)
    before = {day: evaluate(store, day, NOW) for day in DAYS}
    retire_all(lake, archive, dict.fromkeys(expiring, 90))
    if "bronze" in expiring:
        restore(lake, archive, table_of(lake, "bronze"), OLD, NOW)
    after = {day: evaluate(store, day, NOW) for day in DAYS}
    assert all(finding.passed for found in after.values() for finding in found if finding.is_error)
    assert {day: found[0] for day, found in after.items()} == {day: found[0] for day, found in before.items()}


def held(run: Retention) -> dict[str, str | None]:
    return {each.role: run.held(each) for each in run.due() if each.day == OLD}


def test_what_is_still_needed_stays(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    assert set(held(retention(lake, None)).values()) == {None}
    store = StreamStore(CONTRACT, lake)
    store.look()
    store.mark_replay(OLD)
    found = held(retention(lake, None))
    assert {role for role, reason in found.items() if reason and "replay" in reason} == {"bronze", "quarantine"}
    store.mark_replay(None)
    store.look()
    store.log.set("bronze", {store.log.id("rederived_by"): 7})
    assert all(reason and "rederive" in reason for reason in held(retention(lake, None)).values())


def test_events_that_are_not_processed_and_alerts_that_wait_stay(tmp_path: Path) -> None:
    lake, hub = lake_in(tmp_path), MemoryHub(partitions=1)
    hub.send([body(reading(0, 300))], NOON)
    run_session(lake, hub, publisher=AwayPublisher(), limits=NOT_WAITING)
    assert stored(lake, "alerts", OLD).height
    assert (
        retention(lake, None).held(Due(table_of(lake, "alerts"), "alerts", OLD, 1)) == "alerts wait for the alerts hub"
    )
    bronze = Due(table_of(lake, "bronze"), "bronze", OLD, 1)
    assert retention(lake, None).held(bronze) is None
    silver = table_of(lake, "silver")
    silver.append(silver.scan().collect().clear(), transactions={f"{CONTRACT.stream}/0": -1})
    assert "not processed yet" in str(retention(lake, None).held(bronze))


def test_a_rederive_that_begins_just_before_the_removal_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_in(tmp_path)
    three_days(lake)
    remove = LakeTable.remove

    def overtaken(self: LakeTable, *arguments: Any, **options: Any) -> None:
        derive(CONTRACT, lake)
        remove(self, *arguments, **options)

    monkeypatch.setattr(LakeTable, "remove", overtaken)
    with pytest.raises(ConcurrentWriteError):
        retire_all(lake, None, {"bronze": 90})
    assert stored(lake, "bronze", OLD).height


def changed(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"glucose", b"glukose", 1))


@pytest.mark.parametrize(
    ("pattern", "harm", "said"),
    [
        ("*.parquet", lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"), "not the content"),
        ("*.parquet", Path.unlink, "is not there"),
        ("*.json", changed, "not the manifest that the lake recorded"),
        ("*.json", Path.unlink, "is not there"),
        ("*.json", lambda file: file.write_text("{"), "is no manifest"),
    ],
)
def test_a_changed_archive_is_found_and_not_put_back(
    tmp_path: Path, pattern: str, harm: Callable[[Path], object], said: str
) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    retire_all(lake, archive, {"silver": 90})
    [file] = (Path(archive.root) / "silver" / CONTRACT.stream / f"ingest_date={OLD}").glob(pattern)
    harm(file)
    problems = {each.record.ingest_date: each.problem for each in verify(lake, archive)}
    assert said in problems[OLD]
    assert problems[LATER] == ""
    with pytest.raises(ArchiveError, match=said):
        restore(lake, archive, table_of(lake, "silver"), OLD, NOW)
    assert stored(lake, "silver", OLD).is_empty()


def test_a_large_date_is_archived_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    rows = stored(lake, "bronze", OLD)
    monkeypatch.setattr(archive_module, "FILE_BYTES", 1)
    monkeypatch.setattr(parts_module, "BATCH_ROWS", 20)
    retire_all(lake, archive, {"bronze": 90})
    [found] = archive.manifests("bronze/glucose_readings", OLD)
    assert len(found.manifest.files) > 1
    assert sum(file.rows for file in found.manifest.files) == found.manifest.rows == rows.height
    assert same_rows(in_archive(archive, "bronze", OLD), rows)


@pytest.fixture
def on_azure(azurite: Azurite) -> tuple[Lake, Archive]:
    for name in ("retained", "archived"):
        azurite.create_container(name)
    root = f"abfss://{{}}@{ACCOUNT}.dfs.core.windows.net/some/folder"
    options = azurite.storage_options
    return Lake(root.format("retained"), options), Archive(Lake(root.format("archived"), options))


@pytest.mark.service
def test_lake_and_archive_may_be_on_azure(on_azure: tuple[Lake, Archive], monkeypatch: pytest.MonkeyPatch) -> None:
    lake, archive = on_azure
    three_days(lake)
    before = everything(lake)
    with monkeypatch.context() as patched:
        kill(patched, Archive, "_output", is_after=False, call=2)
        with pytest.raises(Killed):
            retire_all(lake, archive)
    assert archive._paths(f"alerts/{CONTRACT.stream}/ingest_date={OLD}"), "a file without a manifest is left"
    retire_all(lake, archive)
    assert [each.problem for each in verify(lake, archive)] == [""] * 8
    assert len(archive._paths(f"alerts/{CONTRACT.stream}/ingest_date={OLD}")) == 2
    for layer in LAYERS:
        for day in (OLD, LATER):
            restore(lake, archive, table_of(lake, layer), day, NOW)
    assert everything(lake) == before
    assert isinstance(records(lake)[0], Record)


def test_a_session_that_commits_while_a_date_is_put_back_is_not_refused(tmp_path: Path) -> None:
    lake, archive = lake_in(tmp_path), archive_in(tmp_path)
    three_days(lake)
    retire_all(lake, archive)
    for layer in LAYERS:
        table, row = table_of(lake, layer), stored(lake, layer, NEWEST).head(1)
        late = Overtaken(table.table, table.uri, lake, partial(restore, lake, archive, table, OLD, NOW))
        assert late.append(row, transactions={f"{CONTRACT.stream}/0": 10**6}) == 1
        assert stored(lake, layer, OLD).height
