"""What must hold of a stream's alarms: of those that are open now, and of the transitions of one ingest date."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from assets.alarms.given import microseconds
from assets.alarms.tables import REFUSED, SILENCE
from assets.archived import archived, closed_event_dates
from assets.stream.alarm_history import standing
from assets.stream.alerting import Alerting
from assets.stream.enrichment import References
from assets.stream.findings import RECENT, Finding
from assets.stream.log import is_beyond
from assets.stream.store import StreamStore

ALARMS = "alarms"
SILENT = timedelta(days=1)
"""After so long a silence somebody must have been told, unless the rule about silence says otherwise."""

DESCRIPTIONS: Mapping[tuple[str, str], str] = {
    (ALARMS, "one_open_alarm"): "No two alarms of one entity and cause are open.",
    (ALARMS, "raising_readings_exist"): "The reading that raised an open alarm is in silver.",
    (ALARMS, "transitions_continuous"): "The transitions of each alarm are numbered from 0, without gaps or repeats: "
    "those of one ingest date, which go on where those before it end.",
    (ALARMS, "silence_is_told"): "Of whom nothing was heard for a day, open alarms are stale, or one about the silence "
    "is open.",
}
"""What each check means, by the role of its table and its name."""

_WHO = ("entity", "cause")
_OTHERS = (SILENCE, REFUSED)


def alarm_findings(store: StreamStore, day: date, now: datetime, *, recent: bool = False) -> list[Finding]:
    """The checks of a stream's alarms; those of open alarms for today only.

    Args:
        store: the stream's tables.
        day: the ingest date.
        now: the time.
        recent: look for readings of those open alarms only that were raised in the last half hour.
    """
    if store.contract.alarms is None:
        return []
    findings = [_transitions(store, day)]
    if day == now.date():
        store.look()
        open_alarms = standing(store.contract, store.alarms.lake)
        findings += [
            _one_open(open_alarms),
            _raising_readings(store, open_alarms, now - RECENT if recent else None),
            _silence(store, open_alarms, now),
        ]
    return findings


def _finding(name: str, failed: int, what: str, open_alarms: pl.DataFrame, *, is_error: bool = False) -> Finding:
    return Finding(ALARMS, name, not failed, {what: failed, "open_alarms": open_alarms.height}, is_error)


def _one_open(open_alarms: pl.DataFrame) -> Finding:
    more = open_alarms.height - open_alarms.select(_WHO).n_unique() if open_alarms.height else 0
    return _finding("one_open_alarm", more, "more_than_one", open_alarms, is_error=True)


def _raising_readings(store: StreamStore, open_alarms: pl.DataFrame, since: datetime | None) -> Finding:
    closed = closed_event_dates(store.silver.lake, store.silver.table, 0)
    raised_at = pl.col("raised_at")
    alarms = open_alarms.filter(
        ~pl.col("cause").is_in(_OTHERS),
        ~raised_at.dt.date().is_in([*closed]),
        True if since is None else raised_at >= since,
        # Alarms are committed before silver: such readings are there a moment later.
        ~is_beyond(store.offsets("silver")),
    )
    if alarms.is_empty():
        return _finding("raising_readings_exist", 0, "without_reading", open_alarms)
    entity, first = store.contract.entity, alarms["raised_at"].min()
    readings = (
        store.silver.scan()
        .filter(
            pl.col("ingest_date") >= pl.lit(first).dt.date(),
            pl.col("measured_at").is_between(first, alarms["raised_at"].max()),
        )
        .select(pl.col(entity).alias("entity"), raised_at="measured_at")
        .join(alarms.lazy().select("entity", "raised_at"), on=["entity", "raised_at"], how="semi")
        .collect(engine="streaming")
    )
    lost = alarms.join(readings, on=["entity", "raised_at"], how="anti")
    return _finding("raising_readings_exist", lost.height, "without_reading", open_alarms)


def _transitions(store: StreamStore, day: date) -> Finding:
    index = pl.col("index")
    transitions = store.alarms.scan().filter(~pl.col("is_update"), index >= 0)
    of_day = (
        transitions.filter(pl.col("ingest_date") == day)
        .group_by("alarm_id")
        .agg(
            count=pl.len(),
            different=index.n_unique(),
            first=index.min(),
            last=index.max(),
            raised_at=pl.col("raised_at").first(),
        )
        .collect(engine="streaming")
    )
    later = of_day.filter(pl.col("first") > 0)
    before = pl.DataFrame(schema={"alarm_id": pl.String, "before": pl.Int64})
    if later.height:
        ids, since = later["alarm_id"].implode(), later["raised_at"].min()
        earlier = transitions.filter(
            pl.col("ingest_date").is_between(pl.lit(since).dt.date(), day, closed="left"), pl.col("alarm_id").is_in(ids)
        )
        before = earlier.group_by("alarm_id").agg(before=index.max()).collect(engine="streaming")
    # Where retention removed rows of an alarm, nobody knows what it was numbered before.
    removed = max(archived(store.alarms.lake, store.alarms), default=date.min)
    is_cut = pl.col("raised_at") < datetime.combine(removed + timedelta(days=1), time(), UTC)
    found = of_day.join(before, on="alarm_id", how="left").filter(
        (pl.col("different") < pl.col("count"))
        | (pl.col("last") - pl.col("first") + 1 != pl.col("different"))
        | ((pl.col("first") != pl.col("before").fill_null(-1) + 1) & ~is_cut)
    )
    return Finding(
        ALARMS,
        "transitions_continuous",
        found.is_empty(),
        {"alarms": of_day.height, "not_continuous": found.height},
    )


def _silence(store: StreamStore, open_alarms: pl.DataFrame, now: datetime) -> Finding:
    contract, since = store.contract, now - SILENT
    assert contract.alarms is not None, "only streams with alarms are looked at"
    told = open_alarms.filter(pl.col("cause") == SILENCE)["entity"]
    suspects = open_alarms.filter(
        ~pl.col("cause").is_in(_OTHERS),
        ~pl.col("is_stale"),
        pl.col("measured_at") <= since,
        ~pl.col("entity").is_in(told.implode()),
    )["entity"].unique()
    if suspects.is_empty():
        return _finding("silence_is_told", 0, "silent_and_not_told", open_alarms)
    heard = (
        store.silver.scan()
        .filter(
            pl.col("ingest_date") >= since.date(),
            pl.col("received_at") > since,
            # What comes late is no contact.
            pl.col("received_at") - pl.col("measured_at") <= contract.alarms.max_age,
            pl.col(contract.entity).is_in(suspects.implode()),
        )
        .select(pl.col(contract.entity).unique())
        .collect(engine="streaming")
        .to_series()
    )
    silent = suspects.filter(~suspects.is_in(heard.implode()))
    untold = _watched(store, silent, now) if silent.len() else 0
    return _finding("silence_is_told", untold, "silent_and_not_told", open_alarms)


def _watched(store: StreamStore, entities: pl.Series, now: datetime) -> int:
    """How many entities are silent by the rule that holds for them, since nothing was heard of them for `SILENT`."""
    references = References(store.contract, store.silver.lake)
    references.refresh()
    rows = pl.DataFrame({store.contract.entity: entities}).with_columns(measured_at=pl.lit(now), pulled_at=pl.lit(now))
    silences = Alerting(store.contract, references).silences(rows)
    return sum(each is not None and each.after <= microseconds(SILENT) for each in silences)
