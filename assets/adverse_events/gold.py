"""What current safety reports say of drugs, reactions and ages. Pure Polars.

Each function takes rows of silver and its children by role, all of one set of reports in their current version, and
counts each report once, however many rows it has.
"""

import polars as pl

from assets.stream.contract import POSITION
from assets.versioned import Rows

SUSPECT = 1
"""The characterization of a suspect drug."""
AGE_GROUPS = ("0-1", "2-11", "12-17", "18-44", "45-64", "65-74", "75+")
FIRST_YEARS = (2, 12, 18, 45, 65, 75)
"""With which completed year of age each group but the first begins."""
UNKNOWN = "unknown"

_POSITION = list(POSITION)
_is_suspect = pl.col("drug_characterization").eq(SUSPECT).fill_null(False)
RECEIVE_MONTH = pl.coalesce("receivedate", pl.col("measured_at").dt.date()).dt.month_start()
"""The month in which a report was first received."""
_report_count = pl.len().cast(pl.Int64)
_serious_count = pl.col("serious").sum().cast(pl.Int64)
_death_count = pl.col("seriousnessdeath").sum().cast(pl.Int64)


def reactions_by_drug(rows: Rows) -> pl.LazyFrame:
    """Rows of `ReactionsByDrug`; drugs and reactions without a name are left out."""
    return (
        _named(rows, "drug_name")
        .join(_reactions(rows), on=_POSITION)
        .join(_reports(rows), on=_POSITION)
        .group_by("drug_name", "reactionmeddrapt")
        .agg(**_all_and_suspect())
    )


def reports_by_substance(rows: Rows) -> pl.LazyFrame:
    """Rows of `ReportsBySubstance`."""
    named = _named(rows, "substance").join(_reports(rows), on=_POSITION)
    return named.group_by("substance").agg(**_all_and_suspect())


def _all_and_suspect() -> dict[str, pl.Expr]:
    suspect = pl.col("is_suspect")
    return {
        "report_count": _report_count,
        "serious_count": _serious_count,
        "death_count": _death_count,
        "suspect_report_count": suspect.sum().cast(pl.Int64),
        "suspect_serious_count": (suspect & pl.col("serious")).sum().cast(pl.Int64),
        "suspect_death_count": (suspect & pl.col("seriousnessdeath")).sum().cast(pl.Int64),
    }


def reactions_by_age_group(rows: Rows) -> pl.LazyFrame:
    """Rows of `ReactionsByAgeGroup`."""
    return (
        _reactions(rows)
        .join(_reports(rows), on=_POSITION)
        .group_by("reactionmeddrapt", age_group=age_group(pl.col("age_years")))
        .agg(report_count=_report_count, serious_count=_serious_count, death_count=_death_count)
    )


def age_group(years: pl.Expr) -> pl.Expr:
    """The group of an age in years."""
    below = (pl.when(years < first).then(pl.lit(name)) for first, name in zip(FIRST_YEARS, AGE_GROUPS, strict=False))
    return pl.coalesce(*below, pl.when(years.is_not_null()).then(pl.lit(AGE_GROUPS[-1])), pl.lit(UNKNOWN))


def overdose_trend(rows: Rows) -> pl.LazyFrame:
    """Rows of `OverdoseTrend`."""
    overdoses = rows["reactions"].filter("is_overdose").select(_POSITION).unique()
    return (
        _named(rows, "drug_name")
        .join(overdoses, on=_POSITION, how="semi")
        .join(_reports(rows), on=_POSITION)
        .group_by("month", "drug_name")
        .agg(
            report_count=_report_count,
            suspect_report_count=pl.col("is_suspect").sum().cast(pl.Int64),
            serious_count=_serious_count,
            death_count=_death_count,
        )
    )


def signal_counts(rows: Rows) -> pl.LazyFrame:
    """Rows of `SignalCounts`."""
    substances = rows["drugs"].filter(_is_suspect).select(*_POSITION, "substance").drop_nulls("substance").unique()
    reactions = _reactions(rows)
    nothing = pl.lit(None, pl.String)
    counted = [
        substances.join(reactions, on=_POSITION).select("substance", "reactionmeddrapt"),
        substances.select("substance", reactionmeddrapt=nothing),
        reactions.select("reactionmeddrapt", substance=nothing).select("substance", "reactionmeddrapt"),
        rows["silver"].select("safetyreportid", substance=nothing, reactionmeddrapt=nothing).drop("safetyreportid"),
    ]
    return pl.concat(counted).group_by("substance", "reactionmeddrapt").agg(report_count=_report_count)


def patient_adverse_event_report(rows: Rows) -> pl.LazyFrame:
    """Rows of `PatientAdverseEventReport`."""
    drugs = ["drug_name", "drug_characterization", "drug_indication"]
    reports = rows["silver"].select(
        *_POSITION,
        "safetyreportid",
        "patientonsetage",
        "patientsex",
        "patientonsetageunit",
        "age_years",
        "serious",
        "safetyreportversion",
        transmissiondate_converted="transmissiondate",
        receive_month=RECEIVE_MONTH,
    )
    # Distinct before they are combined: a report of a hundred drugs and reactions has ten thousand pairs.
    return (
        reports.join(rows["reactions"].select(*_POSITION, "reactionmeddrapt", "is_overdose").unique(), on=_POSITION)
        .join(rows["drugs"].select(*_POSITION, *drugs).unique(), on=_POSITION)
        .drop(_POSITION)
    )


def _reports(rows: Rows) -> pl.LazyFrame:
    return rows["silver"].select(*_POSITION, "serious", "seriousnessdeath", "age_years", month=RECEIVE_MONTH)


def _named(rows: Rows, name: str) -> pl.LazyFrame:
    """Each `drug_name`, or each `substance`, of a report once, with whether it is suspect."""
    return rows["drugs"].drop_nulls(name).group_by(*_POSITION, name).agg(is_suspect=_is_suspect.any())


def _reactions(rows: Rows) -> pl.LazyFrame:
    """Each reaction of a report once."""
    return rows["reactions"].select(*_POSITION, "reactionmeddrapt").drop_nulls("reactionmeddrapt").unique()
