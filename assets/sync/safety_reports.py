"""Rows of `PatientAdverseEventReport`. Pure Polars."""

import polars as pl
import polars_hash as plh

from assets.adverse_events.gold import patient_adverse_event_report
from assets.sync.feed import Rows

NAME_CHARACTERS = 150
"""A longer id of a report gets a digest in the place of its end, since the store looks reports up by their ids."""
KEY = ("safetyreportid", "reactionmeddrapt", "drug_name", "drug_characterization", "drug_indication")
"""What tells the rows of the original's table apart."""
COLUMNS = (
    "safetyreportid",
    "transmissiondate_converted",
    "patientonsetage",
    "patientsex",
    "reactionmeddrapt",
    "drug_name",
    "drug_characterization",
    "drug_indication",
    "is_overdose",
    "patientonsetageunit",
    "age_years",
    "serious",
    "safetyreportversion",
)


def report_rows(rows: Rows) -> pl.LazyFrame:
    """Rows of `PatientAdverseEventReport`, with the ingest date of the version that they are of."""
    ingest_dates = rows["silver"].select("safetyreportid", "ingest_date")
    combined = patient_adverse_event_report(rows).join(ingest_dates, on="safetyreportid")
    named = combined.with_columns(safetyreportid=name_of(pl.col("safetyreportid")))
    return named.select(*COLUMNS, "ingest_date", report_key=_digest())


def name_of(report_id: pl.Expr) -> pl.Expr:
    """The id of a report as the store has it."""
    # The plugin is asked on one column, whatever the expression is.
    digest = report_id.map_batches(_hashed, pl.String)
    is_long = report_id.str.len_chars() > NAME_CHARACTERS
    return pl.when(is_long).then(report_id.str.slice(0, NAME_CHARACTERS) + digest).otherwise(report_id)


def _digest() -> pl.Expr:
    # With its length before it, no value is taken for a part of the next one; a null is no text at all.
    texts = [pl.col(name).cast(pl.String) for name in KEY]
    parts = [
        pl.when(text.is_null()).then(pl.lit("-")).otherwise(pl.concat_str(text.str.len_bytes(), pl.lit(":"), text))
        for text in texts
    ]
    return pl.concat_str(parts).map_batches(_hashed, pl.String)


def _hashed(texts: pl.Series) -> pl.Series:
    hashed = texts.alias("text").to_frame().select(plh.col("text").nchash.xxh3_128().cast(pl.String))
    return hashed.to_series()
