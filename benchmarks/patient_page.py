"""How long the page of one of 1,000 patients takes, with 14 days of readings each 5 minutes, and a preview of a rule.

Tables are written in the files that compaction would have made. Readings lie in the order in which they came, so those
of a patient are spread over all files. A real server answers; it reads no hubs.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import httpx
import polars as pl
import uvicorn
from deltalake import write_deltalake

from assets.alarms.records import alarm_id_of
from assets.alarms.tables import alarms_of
from assets.glucose.assets import CONTRACT
from assets.glucose.gold import glucose_daily_of, glucose_moving_average_of
from assets.glucose.slots import glucose_slots
from assets.glucose.tables import GLUCOSE_DAILY, GLUCOSE_MOVING_AVERAGE
from assets.reference.rules import Wanted
from assets.vitals.tables import NEWS2, VITALS_MINUTE
from benchmarks.report import Figures, say, show
from benchmarks.rules import load_patients
from dashboard.access import Role, Scope
from dashboard.app import application
from dashboard.database import page_database
from dashboard.preview import preview
from dashboard.users import User, Users
from orchestration.alarms import contracts_with_alarms
from resources.lake import Lake
from resources.maintenance import HOOKS, row_properties
from resources.schema import delta_schema
from resources.settings import Settings
from resources.storage import lake_of
from resources.table import Table

TARGET_PAGE_MS, TARGET_PREVIEW_S = 300.0, 10.0
END = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAYS = 14
PAGES = ("", "?span=7d", "?span=14d")
_NAME, _PASSWORD = "bench", "a password of a benchmark"
_DEFAULTS: Mapping[pl.DataType, object] = {
    pl.Int64(): 0,
    pl.Float64(): 0.0,
    pl.String(): "",
    pl.Boolean(): False,
    pl.Datetime("us", "UTC"): END,
    pl.Date(): END.date(),
}


def run(*, quick: bool = False) -> Figures:
    """Pages of many patients, one after the other, and previews of two changes for everyone."""
    patients, pages = (50, 6) if quick else (1_000, 40)
    with TemporaryDirectory(prefix="bench-") as folder:
        settings = Settings(home=Path(folder), page_port=_free_port(), _env_file=None)
        say(f"  writing {DAYS} days of {patients:,} patients")
        readings = _fill(lake_of(settings), patients)
        with _served(settings) as client:
            client.get("/patients/1").raise_for_status()
            taken = {page: [_ms(client, 1 + 7 * number % patients, page) for number in range(pages)] for page in PAGES}
        figures: Figures = {
            "patients": patients,
            "readings": readings,
            "pages_ms": {
                page or "?span=24h": {"median": round(median(each), 1), "p95": round(quantiles(each, n=20)[-1], 1)}
                for page, each in taken.items()
            },
            "previews": [_previewed(lake_of(settings), wanted) for wanted in _changes()],
        }
    _show(figures)
    return figures


def _changes() -> list[Wanted]:
    return [Wanted("glucose_low", {"threshold": 75.0}), Wanted("glucose_high", {"threshold": 140.0})]


def _previewed(lake: Lake, wanted: Wanted) -> Figures:
    began = time.perf_counter()
    found = preview(lake, contracts_with_alarms(), wanted, END)
    seconds = time.perf_counter() - began
    return {
        "change": f"{wanted.rule_id} {wanted.given['threshold']:g}",
        "readings": found.reading_count,
        "before": sum(found.before.values()),
        "after": sum(found.after.values()),
        "seconds": round(seconds, 2),
    }


def _ms(client: httpx.Client, patient: int, page: str) -> float:
    began = time.perf_counter()
    client.get(f"/patients/{patient}{page}").raise_for_status()
    return 1000 * (time.perf_counter() - began)


@contextmanager
def _served(settings: Settings) -> Iterator[httpx.Client]:
    database = page_database(settings.root)
    Users(database, lambda: END).add(User(_NAME, Role.CLINICIAN, Scope(is_everyone=True)), _PASSWORD)
    database.close()
    made = application(settings, lambda: END)
    server = uvicorn.Server(uvicorn.Config(made, port=settings.page_port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    with httpx.Client(
        base_url=f"http://127.0.0.1:{settings.page_port}", headers={"sec-fetch-site": "same-origin"}, timeout=60
    ) as client:
        client.post("/login", data={"name": _NAME, "password": _PASSWORD})
        yield client
    server.should_exit = True
    thread.join(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fill(lake: Lake, patients: int) -> int:
    """Writes silver and alarms of glucose, its gold, and a day of vital signs; says how many readings there are."""
    load_patients(lake)
    count, days = 0, [END.date() - timedelta(days=each) for each in range(DAYS, -1, -1)]
    for day in days:
        readings = _readings(day, patients)
        slots = glucose_slots(readings)
        for table, rows in (
            (CONTRACT.tables.silver, readings),
            (GLUCOSE_DAILY, glucose_daily_of(slots)),
            (GLUCOSE_MOVING_AVERAGE, glucose_moving_average_of(slots, [day])),
            (alarms_of(CONTRACT.stream), _alarms(day, patients)),
        ):
            _write(lake, table, rows)
        count += readings.height
    for day in days[-2:]:
        for table, at in ((VITALS_MINUTE, "minute_at"), (NEWS2, "evaluated_at")):
            _write(lake, table, _minutes(table, at, day, patients))
    return count


def _readings(day: date, patients: int) -> pl.DataFrame:
    """A reading each five minutes of each patient, in the order of time."""
    number = pl.int_range(288 * patients).alias("number")
    patient, slot = number % patients + 1, number // patients
    measured_at = pl.lit(datetime(day.year, day.month, day.day, tzinfo=UTC)) + pl.duration(minutes=5 * slot)
    wave = (slot / 40 + patient).sin() * 60 + 125 + (number * 7919 % 17 - 8)
    rows = _rows(
        CONTRACT.tables.silver,
        patient_id=patient,
        device_id=patient + 1000,
        measured_at=measured_at,
        received_at=measured_at + pl.duration(seconds=1),
        glucose_mg_dl=wave.round(),
        partition=patient % 4,
        sequence_number=number + 300_000_000 * (day.toordinal() % 30),
        event_date=pl.lit(day),
        ingest_date=pl.lit(day),
    )
    return rows.filter(pl.col("received_at") <= END)


def _alarms(day: date, patients: int) -> pl.DataFrame:
    """Eight alarms of each patient, raised and cleared."""
    number = pl.int_range(16 * patients)
    nth, patient = number // 2, number // 16 + 1
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    at = pl.lit(since) + pl.duration(minutes=170 * (nth % 8) + 40 * (number % 2))
    ids = [alarm_id_of(CONTRACT.stream, each, "glucose_low", day.toordinal()) for each in range(8 * patients)]
    is_end = number % 2 == 1
    return _rows(
        alarms_of(CONTRACT.stream),
        alarm_id=pl.Series(ids).gather(pl.int_range(16 * patients, eager=True) // 2),
        index=number % 2,
        kind=pl.when(is_end).then(pl.lit("cleared")).otherwise(pl.lit("raised")),
        state=pl.when(is_end).then(pl.lit("cleared")).otherwise(pl.lit("unacknowledged")),
        at=at,
        decided_at=at,
        raised_at=pl.lit(since) + pl.duration(minutes=170 * (nth % 8)),
        stream=pl.lit(CONTRACT.stream),
        entity=patient,
        cause=pl.lit("glucose_low"),
        severity=pl.when(nth % 4 == 0).then(pl.lit("urgent")).otherwise(pl.lit("warning")),
        rule_id=pl.lit("glucose_low"),
        fold=number,
        event_date=pl.lit(day),
        ingest_date=pl.lit(day),
    ).filter(pl.col("at") <= END)


def _minutes(table: Table, at: str, day: date, patients: int) -> pl.DataFrame:
    number = pl.int_range(1440 * patients)
    minute = pl.lit(datetime(day.year, day.month, day.day, tzinfo=UTC)) + pl.duration(minutes=number // patients)
    means = {
        name: (number % 37).cast(pl.Float64) + 70
        for name in table.schema
        if re.search("_(mean|min|max)$", name) or name == "news2_score"
    }
    given = {at: minute, "patient_id": number % patients + 1, "event_date": pl.lit(day), **means}
    if "news2_score" in given:
        given["news2_score"] = number % 9
    return _rows(table, **given).filter(pl.col(at) <= END)


def _rows(table: Table, **given: pl.Expr | pl.Series) -> pl.DataFrame:
    """Rows of a table: what is not given is null, or nothing where it may not be."""
    required = {*table.required}
    columns = [
        given.get(name, pl.lit(_DEFAULTS[dtype] if name in required else None)).cast(dtype).alias(name)
        for name, dtype in table.schema.items()
    ]
    return pl.select(columns)


def _write(lake: Lake, table: Table, rows: pl.DataFrame) -> None:
    write_deltalake(
        lake.table(table).create().delta(),
        rows.to_arrow(compat_level=pl.CompatLevel.oldest()),
        mode="append",
        partition_by=list(table.partition_by),
        writer_properties=row_properties(delta_schema(table)),
        post_commithook_properties=HOOKS,
    )


def _show(figures: Figures) -> None:
    rows = [
        [f"page, {page}, ms", f"{each['median']:.0f}", f"{each['p95']:.0f}", f"≤ {TARGET_PAGE_MS:.0f}"]
        for page, each in figures["pages_ms"].items()
    ]
    rows += [
        [f"preview of {each['change']}, s", f"{each['seconds']:.1f}", "", f"≤ {TARGET_PREVIEW_S:.0f}"]
        for each in figures["previews"]
    ]
    show(
        f"One of {figures['patients']:,} patients, {figures['readings']:,} readings",
        ("", "median", "p95", "wanted"),
        rows,
    )
