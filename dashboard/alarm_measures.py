"""How good the alarms of some patients were, by ANSI/ISA-18.2-2016 and IEC 62682:2022, clause 16. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import polars as pl

FLOOD = 10
"""More alarms in ten minutes than this are a flood."""
CHATTERING = 3
"""So many alarms of a patient and a cause within ten minutes chatter."""
STANDING_S = 24 * 3600.0
MISSED, RETRACTED = "missed", "retracted"


@dataclass(frozen=True)
class Measures:
    """The measures of some days.

    Attributes:
        days: how many.
        alarms: raised in them.
        per_entity_and_day: of those patients and devices that had any.
        shares: in percent of alarms, by severity; the standards aim at about 80 info, 15 warning, 5 urgent.
        peak: the most alarms within ten minutes.
        flood_percent: of all ten minutes; the standards aim at less than 1.
        standing: that lasted for more than a day.
        chattering: at least the third of a patient and a cause within ten minutes.
        acknowledged_percent, acknowledge_p50_s, acknowledge_p90_s: how many, and how soon.
        missed_percent, retracted_percent: of episodes that people were never told of, and alarms that never were.
        rules: the ten that raised most, with how many.
    """

    days: int
    alarms: int
    per_entity_and_day: float
    shares: dict[str, float]
    peak: int
    flood_percent: float
    standing: int
    chattering: int
    acknowledged_percent: float
    acknowledge_p50_s: float | None
    acknowledge_p90_s: float | None
    missed_percent: float
    retracted_percent: float
    rules: Sequence[tuple[str, int]]


def measures(records: pl.DataFrame, days: int, now: datetime) -> Measures:
    """The measures of rows of `gold/alarms`.

    Args:
        records: `stream`, `entity`, `cause`, `severity`, `rule_id`, `raised_at`, `duration_s`, `acknowledge_s` and
            `state`, of these days.
        days: how many days they are of.
        now: until when alarms that are open have lasted.
    """
    told = records.filter(pl.col("state") != MISSED).sort("raised_at")
    missed = records.height - told.height
    entities = told.select("stream", "entity").n_unique() if told.height else 0
    period = pl.col("raised_at").dt.truncate("10m")
    periods: list[int] = told.group_by(period).len()["len"].to_list()
    near = told.select(pl.len().rolling("raised_at", period="10m").over("stream", "entity", "cause").alias("near"))[
        "near"
    ]
    lasted = pl.coalesce("duration_s", (pl.lit(now) - pl.col("raised_at")).dt.total_seconds().cast(pl.Float64))
    soon = told["acknowledge_s"].drop_nulls()
    rules = (
        told.drop_nulls("rule_id").group_by("rule_id").len().sort("len", "rule_id", descending=[True, False]).head(10)
    )
    return Measures(
        days=days,
        alarms=told.height,
        per_entity_and_day=told.height / entities / days if entities else 0.0,
        shares={
            name: _percent((told["severity"] == name).sum(), told.height) for name in ("urgent", "warning", "info")
        },
        peak=max(periods, default=0),
        flood_percent=_percent(sum(count > FLOOD for count in periods), days * 144),
        standing=told.select((lasted > STANDING_S).sum()).item(),
        chattering=int((near >= CHATTERING).sum()),
        acknowledged_percent=_percent(len(soon), told.height),
        acknowledge_p50_s=_quantile(soon, 0.5),
        acknowledge_p90_s=_quantile(soon, 0.9),
        missed_percent=_percent(missed, records.height),
        retracted_percent=_percent((told["state"] == RETRACTED).sum(), told.height),
        rules=[(str(rule), int(count)) for rule, count in rules.iter_rows()],
    )


def _percent(part: float | Decimal, whole: int) -> float:
    return 100.0 * float(part) / whole if whole else 0.0


def _quantile(values: pl.Series, share: float) -> float | None:
    return values.quantile(share, "linear")
