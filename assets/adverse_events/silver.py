"""What a safety report means: its dates, codes, age, drugs and reactions. Pure Polars.

Code lists are those of ICH E2B(R2), which openFDA publishes.
"""

from datetime import date

import polars as pl
import polars_hash as plh

from assets.adverse_events.contract import DRUGS, REACTIONS, SafetyReports
from assets.stream.contract import FUTURE_TOLERANCE, Child, Utc
from assets.stream.decode import TEXT, bad_type, missing_field

NO_REACTION_AND_NO_DRUG = "no_reaction_and_no_drug"
TOO_MANY_PAIRS = "too_many_pairs"
MAX_PAIRS = 100_000
"""How many pairs of a drug and a reaction a report may have; of real reports one had 1,978."""
BAD_TIMESTAMP = "bad_timestamp"

DAYS_PER_YEAR = 365.25
YEARS_PER_UNIT = {
    800: 10.0,
    801: 1.0,
    802: 1 / 12,
    803: 7 / DAYS_PER_YEAR,
    804: 1 / DAYS_PER_YEAR,
    805: 1 / (24 * DAYS_PER_YEAR),
}
"""The units of an age: decade, year, month, week, day, hour."""
OLDEST_YEARS = 130.0
"""What is beyond is no age of a person, so it is not converted; the age as given stays."""

DATES = ("receiptdate", "receivedate", "transmissiondate")
"""In the order in which they date a report."""
EARLIEST = date(1900, 1, 1)
FLAGS = (
    "seriousnessdeath",
    "seriousnesslifethreatening",
    "seriousnesshospitalization",
    "seriousnessdisabling",
    "seriousnesscongenitalanomali",
    "seriousnessother",
)
REPORTED = (
    "safetyreportid",
    "safetyreportversion",
    *DATES,
    "serious",
    *FLAGS,
    "patientonsetage",
    "patientonsetageunit",
    "patientsex",
    "companynumb",
    "occurcountry",
    "primarysourcecountry",
    "reportercountry",
    "qualification",
)
"""What a digest is made of besides drugs and reactions. Whoever adds a name makes corrections of all later repeats."""
_SILVER = set(SafetyReports.columns())
_patient, _source = pl.col("patient").struct, pl.col("primarysource").struct
_element = pl.element().struct


def clean(decoded: pl.DataFrame) -> pl.DataFrame:
    """Adds silver's columns, the lists `drugs` and `reactions`, and `reason` (null for a good report).

    A date has eight, six or four digits; of a month or a year its first day is meant. An age that is no number, one
    without a unit, and one that no person has, has no `age_years`.
    """
    texts = {name: _text(name) for name in ("safetyreportid", "safetyreportversion", "serious", *DATES, *FLAGS)}
    reports = decoded.with_columns(
        **{name: _date(texts[name]) for name in DATES},
        **{f"has_{name}": texts[name].is_not_null() for name in DATES},
        **{name: (texts[name] == "1").fill_null(False) for name in FLAGS},
        serious=pl.when(texts["serious"] == "1").then(True).when(texts["serious"] == "2").then(False),
        has_version=texts["safetyreportversion"].is_not_null(),
        safetyreportversion=_whole(texts["safetyreportversion"]),
        safetyreportid=texts["safetyreportid"],
        age=_number(_patient.field("patientonsetage")),
        patientonsetageunit=_whole(_patient.field("patientonsetageunit")),
        patientsex=_whole(_patient.field("patientsex")),
        reportercountry=_source.field("reportercountry"),
        qualification=_whole(_source.field("qualification")),
        drugs=_patient.field("drug").list.eval(_drug()).fill_null([]),
        reactions=_patient.field("reaction").list.eval(_reaction()).fill_null([]),
    )
    reports = reports.with_columns(
        measured_at=pl.coalesce(DATES).cast(Utc),
        patientonsetage=pl.col("age").cast(pl.Int64, strict=False),
        age_years=_age_years(),
        drug_count=pl.col("drugs").list.len().cast(pl.Int64),
        reaction_count=pl.col("reactions").list.len().cast(pl.Int64),
    )
    has_date = pl.any_horizontal(pl.col(f"has_{name}") for name in DATES)
    latest = (pl.col("received_at") + FUTURE_TOLERANCE).dt.date()
    bad_date = pl.any_horizontal(pl.col(f"has_{name}") & pl.col(name).is_null() for name in DATES)
    return reports.with_columns(
        content=_digest(reports),
        reason=pl.when(pl.col("safetyreportid").is_null())
        .then(pl.lit(missing_field("safetyreportid")))
        .when(pl.col("has_version") & pl.col("safetyreportversion").is_null())
        .then(pl.lit(bad_type("safetyreportversion")))
        .when((pl.col("drug_count") == 0) & (pl.col("reaction_count") == 0))
        .then(pl.lit(NO_REACTION_AND_NO_DRUG))
        .when(pl.col("drug_count") * pl.col("reaction_count") > MAX_PAIRS)
        .then(pl.lit(TOO_MANY_PAIRS))
        .when(bad_date)
        .then(pl.lit(BAD_TIMESTAMP))
        .when(~has_date)
        .then(pl.lit(missing_field("receiptdate")))
        .when(pl.any_horizontal(pl.col(name) > latest for name in DATES))
        .then(pl.lit("in_the_future")),
    )


def _text(name: str) -> pl.Expr:
    """A field that may be a text or a number, as a text; blank ones are unknown."""
    text = pl.coalesce(pl.col(name + TEXT).str.strip_chars(), pl.col(name).cast(pl.String))
    return pl.when(text != "").then(text)


def _date(text: pl.Expr) -> pl.Expr:
    digits = pl.when(text.str.contains(r"^(\d{4}|\d{6}|\d{8})$")).then(text)
    # The first month and day complete what is missing.
    whole = pl.when(digits.str.len_bytes() == 4).then(digits + "0101").otherwise(digits + "01").str.head(8)
    found = whole.str.to_date("%Y%m%d", strict=False)
    return pl.when(found >= EARLIEST).then(found)


def _number(text: pl.Expr) -> pl.Expr:
    number = text.str.strip_chars().cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _whole(text: pl.Expr) -> pl.Expr:
    """A whole number, exactly as it is written; null for anything else."""
    return text.str.strip_chars().str.extract(r"^([+-]?\d+)(?:\.0+)?$").cast(pl.Int64, strict=False)


def _age_years() -> pl.Expr:
    factor = pl.col("patientonsetageunit").replace_strict(YEARS_PER_UNIT, default=None, return_dtype=pl.Float64)
    years = pl.col("age") * factor
    return pl.when(years.is_between(0, OLDEST_YEARS)).then(years)


def _drug() -> pl.Expr:
    name = _element.field("medicinalproduct")
    substance = pl.coalesce(
        _known(_element.field("activesubstance").struct.field("activesubstancename")),
        _known(_element.field("openfda").struct.field("generic_name").list.first()),
        _known(name),
    )
    fields = {
        "drug_name": name,
        "substance": substance,
        "drug_characterization": _whole(_element.field("drugcharacterization")),
        "drug_indication": _element.field("drugindication"),
        "drugauthorizationnumb": _element.field("drugauthorizationnumb"),
        "drugadministrationroute": _element.field("drugadministrationroute"),
    }
    return _struct(fields, DRUGS)


def _reaction() -> pl.Expr:
    term = _element.field("reactionmeddrapt")
    fields = {
        "reactionmeddrapt": term,
        "reactionoutcome": _whole(_element.field("reactionoutcome")),
        "is_overdose": term.str.to_lowercase().str.contains("overdose", literal=True).fill_null(False),
    }
    return _struct(fields, REACTIONS)


def _struct(columns: dict[str, pl.Expr], child: Child) -> pl.Expr:
    return pl.struct(columns[each.name].alias(each.name) for each in _fields(child))


def _fields(child: Child) -> list[pl.Field]:
    inner = child.element(_SILVER).inner
    assert isinstance(inner, pl.Struct)
    return inner.fields


def _known(name: pl.Expr) -> pl.Expr:
    """A name in upper case, trimmed and without a final full stop; null where nothing is left."""
    plain = name.str.strip_chars().str.to_uppercase().str.strip_suffix(".").str.strip_chars_end()
    return pl.when(plain != "").then(plain)


def _digest(reports: pl.DataFrame) -> pl.Series:
    """XXH3 (128 bits, decimal) of all that is reported; openFDA's additions, which change with time, are left out."""
    given = (_element.field(each.name) for each in _fields(DRUGS) if each.name != "substance")
    lists = [pl.col("drugs").list.eval(pl.struct(*given)), pl.col("reactions")]
    json = reports.select(json=pl.struct(*REPORTED, *lists).struct.json_encode())
    return json.select(plh.col("json").nchash.xxh3_128().cast(pl.String)).to_series()
