"""How good alarms are: what became of each, what people were never told of, and what never was. Pure.

`gold/alarms` has a row for each alarm and for each *missed* episode. An alarm's row follows from its transitions, and
from alerts alone whether it is `retracted`. Missed episodes follow from breaches (rules broken by readings) that lie in
no alarm:

```
 breaches     x x x        x   x                    x  x x            x     one entity and cause; gap = G
 alarms                 [raised ──────── cleared]
 covered           <─ G ─|─────────────────────|─ G ─>
 missed       [───]                                     [─]           []    three rows
```

All of it is of sets of rows, so the order in which they came, and in which micro-batches, changes nothing. A missed
episode ends at midnight, UTC, and a new one begins: so a date follows from its own breaches, and from the alarms that
reach into it. Whoever sends everything hours late would otherwise have one episode for ever, of which each reading
changes a row of long ago.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dataframely as dy
import polars as pl

from assets.alarms.records import alarm_id_of
from assets.alarms.tables import CLEARED, RANKS, REFUSED, SEVERITIES, SILENCE
from assets.columns import utc
from assets.stream.contract import POSITION, Contract, Rule
from resources.table import Table

OPEN, CLOSED, MISSED, RETRACTED = "open", "closed", "missed", "retracted"
LEAST_GAP = timedelta(minutes=15)
"""Breaches so near to each other, or to an alarm, are of one episode, whatever a stream says."""

_ENDS = (CLEARED, CLOSED)
COUNTED = ("alarm_id", "fold", "worst_value", "reading_count")
"""What is read of rows of the table of alarms that are no transitions."""
_FAR = datetime(9999, 1, 1, tzinfo=UTC)
_WHO = ["entity", "cause"]
_PLACE = [*POSITION]


class AlarmRecords(dy.Schema):
    """One alarm, or one episode that people were never told of (state `missed`), of any stream. Key: alarm_id.

    `state` is `open`, `cleared`, `closed` (by a person), `missed`, or `retracted`: the reading that raised it breaks no
    rule of the cause any more. `ended` says how it ended, whatever the state: `cleared`, `closed` or `open`, and
    `cleared_at` when. `severity` and `rule_id` are of the reading that raised it, `worst_severity` of all.
    `reading_count` and `worst_value` are of readings that broke a rule. `acknowledge_s` are the seconds from
    `decided_at`, when the alarm was raised, to the first acknowledgement. Of a missed episode `raised_at` and
    `cleared_at` are the first and the last reading, and `decided_at` is when the hub got the first of them. `entity` is
    a value of the column `entity_key` of the stream, such as patient_id. `is_late` is true of missed episodes.
    """

    alarm_id = dy.String(nullable=False)
    stream = dy.String(nullable=False)
    entity = dy.Int64(nullable=False)
    entity_key = dy.String(nullable=False)
    cause = dy.String(nullable=False)
    severity = dy.String(nullable=False)
    worst_severity = dy.String(nullable=False)
    rule_id = dy.String(nullable=True)
    raised_at = utc()
    decided_at = utc()
    worst_value = dy.Float64(nullable=True)
    reading_count = dy.Int64(nullable=False)
    acknowledged_at = utc(nullable=True)
    acknowledged_by = dy.String(nullable=True)
    acknowledge_s = dy.Float64(nullable=True)
    snooze_count = dy.Int64(nullable=False)
    reminder_count = dy.Int64(nullable=False)
    highest_tier = dy.Int64(nullable=False)
    cleared_at = utc(nullable=True)
    ended = dy.String(nullable=False)
    duration_s = dy.Float64(nullable=True)
    state = dy.String(nullable=False)
    is_late = dy.Bool(nullable=False)
    transition_count = dy.Int64(nullable=False)
    event_date = dy.Date(nullable=False)
    is_open = dy.Bool(nullable=False)


ALARMS = Table("gold/alarms", AlarmRecords, ("event_date", "stream", "is_open"))
"""Open alarms are apart, since their rows change, also days later."""

_SCHEMA = ALARMS.schema


def nothing() -> pl.DataFrame:
    """No rows of `gold/alarms`."""
    return pl.DataFrame(schema=_SCHEMA)


@dataclass(frozen=True)
class Measure:
    """How the alarms of one stream are measured.

    Attributes:
        contract: the stream.
        rules: the contract's, then those that only a table of rules has.
    """

    contract: Contract
    rules: Sequence[Rule]

    @property
    def gap(self) -> timedelta:
        """How far apart breaches of one episode are at most."""
        alarms = self.contract.alarms
        return LEAST_GAP if alarms is None else max(LEAST_GAP, alarms.clear_after)

    # ------------------------------------------------------------------ alarms

    def recorded(self, known: pl.DataFrame, transitions: pl.DataFrame, updates: pl.DataFrame) -> pl.DataFrame:
        """The rows of alarms after more of their transitions.

        Args:
            known: their rows before, as far as there are some.
            transitions: rows of the table of alarms, of any order; an alarm whose first transition is among them is
                told of from its beginning, whatever was known of it.
            updates: `alarm_id`, `fold`, `worst_value` and `reading_count` of rows that are no transitions.
        """
        transitions = transitions.filter(pl.col("index") >= 0)
        begun = transitions.filter(pl.col("index") == 0)["alarm_id"].unique()
        known = known.filter(~pl.col("alarm_id").is_in(begun.implode()))
        seen = known.select("alarm_id", told="transition_count")
        new = (
            transitions.join(seen, on="alarm_id", how="left")
            .filter(pl.col("told").is_null() | (pl.col("index") >= pl.col("told")))
            .sort("fold", "index")
        )
        rows = known.join(_told(new), on="alarm_id", how="full", coalesce=True).join(
            _counted(new, updates), on="alarm_id", how="left"
        )
        return self._completed(rows)

    def _completed(self, rows: pl.DataFrame) -> pl.DataFrame:
        def first(name: str) -> pl.Expr:
            return pl.coalesce(name, f"first_{name}")

        def total(name: str) -> pl.Expr:
            return pl.col(name).fill_null(0) + pl.col(f"more_{name}").fill_null(0)

        raised_at = first("raised_at")
        cleared_at = pl.when(pl.col("new_ended").is_null()).then("cleared_at").otherwise("new_cleared_at")
        acknowledged_at, decided_at = first("acknowledged_at"), first("decided_at")
        rows = rows.with_columns(
            first("entity"),
            first("cause"),
            first("severity"),
            first("rule_id"),
            raised_at,
            decided_at,
            _severity(pl.max_horizontal(_rank("worst_severity"), "more_worst")).alias("worst_severity"),
            pl.when(pl.col("last_reading_count").is_null())
            .then("worst_value")
            .otherwise("last_worst_value")
            .alias("worst_value"),
            pl.coalesce("last_reading_count", "reading_count").alias("reading_count"),
            acknowledged_at,
            first("acknowledged_by"),
            # Whoever acknowledges may have a clock that is behind.
            acknowledge_s=_seconds(acknowledged_at - decided_at).clip(0),
            snooze_count=total("snooze_count"),
            reminder_count=total("reminder_count"),
            highest_tier=pl.max_horizontal("highest_tier", "more_tier"),
            cleared_at=cleared_at,
            ended=pl.coalesce("new_ended", "ended"),
            duration_s=_seconds(cleared_at - raised_at),
            transition_count=pl.max_horizontal("transition_count", "more_transition_count"),
        )
        is_retracted = (pl.col("state") == RETRACTED).fill_null(False)
        return rows.with_columns(
            stream=pl.lit(self.contract.stream),
            entity_key=pl.lit(self.contract.entity),
            state=pl.when(is_retracted).then(pl.lit(RETRACTED)).otherwise("ended"),
            is_late=pl.lit(False),
            event_date=pl.col("raised_at").dt.date(),
            is_open=pl.col("ended") == OPEN,
        ).select(_SCHEMA.names())

    def judged(self, alarms: pl.DataFrame, confirmed: pl.DataFrame) -> pl.DataFrame:
        """Alarms with the state that follows from alerts.

        Args:
            alarms: rows, none of them `missed`.
            confirmed: `entity`, `cause` and `measured_at` of breaches, among them those that raised these alarms.
        """
        at = [*_WHO, "raised_at"]
        found = confirmed.select(*_WHO, raised_at="measured_at", is_found=pl.lit(True)).unique()
        is_right = pl.col("cause").is_in([SILENCE, REFUSED]) | pl.col("is_found").fill_null(False)
        rows = alarms.join(found, on=at, how="left", maintain_order="left")
        return rows.with_columns(state=pl.when(is_right).then("ended").otherwise(pl.lit(RETRACTED))).drop("is_found")

    # ------------------------------------------------------------------ breaches

    def breaches(self, alerts: pl.LazyFrame) -> pl.LazyFrame:
        """What alerts say of causes: whose, when, how severe, by which rule and with which value."""
        schema = self.contract.tables.alerts.schema
        causes = {rule.id: rule.about for rule in self.rules}
        places = {rule.id: place for place, rule in enumerate(self.rules)}
        columns: dict[str, list[str]] = {}
        for rule in self.rules:
            if rule.column in schema:
                columns.setdefault(rule.column, []).append(rule.id)
        broken = pl.col("rule")
        values = [
            pl.when(broken.is_in(rules)).then(pl.col(column).cast(pl.Float64)) for column, rules in columns.items()
        ]
        return alerts.select(
            pl.col(self.contract.entity).alias("entity"),
            # A rule that was taken out of the contract is about itself.
            broken.replace_strict(causes, default=broken, return_dtype=pl.String).alias("cause"),
            "rule",
            broken.replace_strict(places, default=len(places), return_dtype=pl.Int64).alias("place"),
            _rank("severity").alias("rank"),
            pl.coalesce(values).alias("value") if values else pl.lit(None, pl.Float64).alias("value"),
            "measured_at",
            "received_at",
            pl.col("hub_epoch").fill_null(0),
            *_PLACE[1:],
        )

    def outside(self, breaches: pl.DataFrame, alarms: pl.DataFrame) -> pl.DataFrame:
        """Those breaches that lie in no alarm of their entity and cause, nor within the gap of one.

        Args:
            breaches: as `breaches` gives them.
            alarms: rows of `gold/alarms`, none of them `missed`; all that reach into the time of the breaches.
        """
        spans = (
            alarms.select(
                *_WHO,
                begins=pl.col("raised_at") - self.gap,
                ends=pl.col("cleared_at").fill_null(_FAR - self.gap) + self.gap,
            )
            .sort("begins")
            # One that a person closed may end after the next one has begun.
            .with_columns(pl.col("ends").cum_max().over(_WHO))
        )
        if spans.is_empty() or breaches.is_empty():
            return breaches
        sought = breaches.with_columns(pl.col("measured_at").alias("begins")).sort("begins")
        met = sought.join_asof(spans, on="begins", by=_WHO, strategy="backward", check_sortedness=False)
        return met.filter(~(pl.col("ends") >= pl.col("measured_at")).fill_null(False)).select(breaches.columns)

    def parts(self, outside: pl.DataFrame) -> pl.DataFrame:
        """Breaches as parts of episodes, for `episodes`: what one reading says, one part each.

        Args:
            outside: as `outside` gives them; all breaches of a reading, if one.
        """
        leading = outside.sort(-pl.col("rank"), "place", maintain_order=True).group_by(
            *_WHO, *_PLACE, maintain_order=True
        )
        return leading.agg(
            first=pl.col("measured_at").first(),
            last=pl.col("measured_at").first(),
            rule_id=pl.col("rule").first(),
            place=pl.col("place").first(),
            rank=pl.col("rank").first(),
            worst_rank=pl.col("rank").first(),
            value=pl.col("value").first(),
            received_at=pl.col("received_at").first(),
            readings=pl.lit(1, pl.Int64),
        ).drop(_PLACE)

    def joined(self, parts: pl.DataFrame) -> pl.DataFrame:
        """Parts of episodes, joined where the gap between them is small; what is joined already may be joined again."""
        if parts.is_empty():
            return parts
        ordered = parts.sort(*_WHO, "first", -pl.col("rank"), "place", "rule_id", "value", "received_at")
        before = pl.col("last").cum_max().shift().over(_WHO)
        begins = ((pl.col("first") - before) > self.gap).fill_null(True)
        downward = sorted({rule.about for rule in self.rules if rule.is_downward})
        value = pl.col("value")
        return (
            ordered.with_columns(episode=begins.cum_sum())
            .group_by("episode", maintain_order=True)
            .agg(
                *(pl.col(name).first() for name in (*_WHO, "first")),
                pl.col("last").max(),
                *(pl.col(name).first() for name in ("rule_id", "place", "rank")),
                pl.col("worst_rank").max(),
                pl.when(pl.col("cause").first().is_in(downward)).then(value.min()).otherwise(value.max()),
                pl.col("received_at").min(),
                pl.col("readings").sum(),
            )
            .select(parts.columns)
        )

    def missed(self, episodes: pl.DataFrame) -> pl.DataFrame:
        """The rows of missed episodes, as `joined` gives them."""
        stream = self.contract.stream
        instants = episodes["first"].to_physical().to_list()
        ids = [
            alarm_id_of(stream, entity, cause, at)
            for entity, cause, at in zip(episodes["entity"], episodes["cause"], instants, strict=True)
        ]
        instant, count = _SCHEMA["raised_at"], pl.lit(0, pl.Int64)
        return episodes.with_columns(
            alarm_id=pl.Series(ids, dtype=pl.String),
            stream=pl.lit(stream),
            entity_key=pl.lit(self.contract.entity),
            severity=_severity(pl.col("rank")),
            worst_severity=_severity(pl.col("worst_rank")),
            raised_at="first",
            decided_at="received_at",
            worst_value="value",
            reading_count="readings",
            acknowledged_at=pl.lit(None, instant),
            acknowledged_by=pl.lit(None, pl.String),
            acknowledge_s=pl.lit(None, pl.Float64),
            snooze_count=count,
            reminder_count=count,
            highest_tier=count,
            cleared_at="last",
            ended=pl.lit(CLEARED),
            duration_s=_seconds(pl.col("last") - pl.col("first")),
            state=pl.lit(MISSED),
            is_late=pl.lit(True),
            transition_count=count,
            event_date=pl.col("first").dt.date(),
            is_open=pl.lit(False),
        ).select(_SCHEMA.names())

    def dates(self, before: pl.DataFrame, after: pl.DataFrame, newest: date) -> set[date]:
        """The event dates whose missed episodes, or whose retracted alarms, may be others than before.

        Args:
            before, after: rows of the same alarms; those that are new have none before.
            newest: the last date that there are breaches of.
        """
        was = before.select("alarm_id", was_until="cleared_at", was=pl.lit(True))
        rows = after.join(was, on="alarm_id", how="left").filter(~pl.col("cause").is_in([SILENCE, REFUSED]))
        until = pl.col("cleared_at")
        moved = rows.filter(pl.col("was").is_null() | ~until.eq_missing(pl.col("was_until")))
        is_known = pl.col("was").is_not_null()
        # What was open covered all that came later, and so does what is open.
        begins = pl.when(is_known).then(pl.min_horizontal("cleared_at", "was_until")).otherwise("raised_at")
        is_far = is_known | until.is_null()
        spans = moved.select(
            begins=(begins - self.gap).dt.date(),
            ends=pl.when(is_far).then(pl.lit(newest)).otherwise((until + self.gap).dt.date()),
        ).unique()
        found: set[date] = set()
        for begin, end in spans.iter_rows():
            found.update(begin + timedelta(days=ahead) for ahead in range((min(end, newest) - begin).days + 1))
        return found


def _told(transitions: pl.DataFrame) -> pl.DataFrame:
    """What some transitions, in their order, say of each alarm."""
    kind = pl.col("kind")
    is_acknowledged = kind == "acknowledged"
    last_end = kind.is_in(_ENDS)
    return transitions.group_by("alarm_id", maintain_order=True).agg(
        *(
            pl.col(name).first().alias(f"first_{name}")
            for name in ("entity", "cause", "severity", "rule_id", "raised_at", "decided_at")
        ),
        first_acknowledged_at=pl.col("at").filter(is_acknowledged).first(),
        first_acknowledged_by=pl.col("actor").filter(is_acknowledged).first(),
        more_worst=_rank("severity").max(),
        more_snooze_count=(kind == "snoozed").sum().cast(pl.Int64),
        more_reminder_count=(kind == "reminded").sum().cast(pl.Int64),
        more_tier=pl.col("tier").max(),
        more_transition_count=pl.col("index").max() + 1,
        new_ended=pl.when(pl.col("state").last() == CLEARED).then(kind.filter(last_end).last()).otherwise(pl.lit(OPEN)),
        new_cleared_at=pl.when(pl.col("state").last() == CLEARED).then(pl.col("at").filter(last_end).last()),
    )


def _counted(transitions: pl.DataFrame, updates: pl.DataFrame) -> pl.DataFrame:
    """The newest count of readings of each alarm, and the worst value among them."""
    rows = pl.concat([transitions.select(COUNTED), updates.select(COUNTED)])
    newest = rows.sort("fold", maintain_order=True).unique("alarm_id", keep="last", maintain_order=True)
    return newest.select("alarm_id", last_worst_value="worst_value", last_reading_count="reading_count")


def _rank(column: str) -> pl.Expr:
    return pl.col(column).replace_strict(dict(RANKS), default=0, return_dtype=pl.Int64)


def _severity(rank: pl.Expr) -> pl.Expr:
    return rank.replace_strict(dict(enumerate(SEVERITIES)), return_dtype=pl.String)


def _seconds(span: pl.Expr) -> pl.Expr:
    return span.dt.total_microseconds() / 1e6
