"""Disproportionality: which reactions a suspect substance is reported with more often than others are. Pure Polars.

```
                      the reaction   another one
 the substance             a              b
 another one               c              d          N = a + b + c + d
```

PRR and its criteria: Evans, Waller and Davis, Pharmacoepidemiol Drug Saf 2001. ROR: van Puijenbroek et al., ibid. 2002.
IC and its lower bound: Norén, Hopstadius and Bate, Stat Methods Med Res 2013.
"""

import polars as pl

from assets.adverse_events.tables import SafetySignals

Z = 1.96
"""Standard deviations on each side of a 95 % confidence interval."""
LEAST_REPORTS, LEAST_PRR, LEAST_CHI_SQUARE = 3, 2.0, 4.0

_a, _b, _c, _d = (pl.col(f"{name}_").cast(pl.Float64) for name in "abcd")
_n = _a + _b + _c + _d


def safety_signals(counts: pl.LazyFrame) -> pl.DataFrame:
    """The measures of each pair of a suspect substance and a reaction that some report names together.

    Args:
        counts: rows of `SignalCounts`.

    Returns:
        Rows of `SafetySignals`, sorted by key.
    """
    substance, reaction, count = pl.col("substance"), pl.col("reactionmeddrapt"), pl.col("report_count")
    of_substance = counts.filter(reaction.is_null()).select("substance", with_substance=count)
    of_reaction = counts.filter(substance.is_null()).select("reactionmeddrapt", with_reaction=count)
    everything = counts.filter(substance.is_null(), reaction.is_null()).select(everything=count)
    pairs = counts.filter(substance.is_not_null(), reaction.is_not_null())
    cells = (
        pairs.join(of_substance, on="substance")
        .join(of_reaction, on="reactionmeddrapt")
        .join(everything, how="cross")
        .select(
            "substance",
            "reactionmeddrapt",
            a_=count,
            b_=pl.col("with_substance") - count,
            c_=pl.col("with_reaction") - count,
            d_=pl.col("everything") - pl.col("with_substance") - pl.col("with_reaction") + count,
        )
    )
    return SafetySignals.validate(disproportionality(cells).sort("substance", "reactionmeddrapt").collect())


def disproportionality(cells: pl.LazyFrame) -> pl.LazyFrame:
    """Adds the measures to rows with the cells ``a_``, ``b_``, ``c_`` and ``d_``, which become ``a`` to ``d``."""
    prr = _ratio(_a / (_a + _b), _c / (_c + _d))
    ror = _ratio(_a * _d, _b * _c)
    prr_error = (1 / _a - 1 / (_a + _b) + 1 / _c - 1 / (_c + _d)).sqrt()
    ror_error = (1 / _a + 1 / _b + 1 / _c + 1 / _d).sqrt()
    distance = ((_a * _d - _b * _c).abs() - _n / 2).clip(lower_bound=0)
    chi_square = _n * distance**2 / ((_a + _b) * (_c + _d) * (_a + _c) * (_b + _d))
    expected = (_a + _b) * (_a + _c) / _n
    ic = ((_a + 0.5) / (expected + 0.5)).log(2)
    measured = cells.with_columns(
        expected_count=expected,
        prr=prr,
        prr_lower=_finite((prr.log() - Z * prr_error).exp()),
        prr_upper=_finite((prr.log() + Z * prr_error).exp()),
        chi_square=_finite(chi_square),
        ror=ror,
        ror_lower=_finite((ror.log() - Z * ror_error).exp()),
        ror_upper=_finite((ror.log() + Z * ror_error).exp()),
        ic=ic,
        ic025=ic - 3.3 * (_a + 0.5) ** -0.5 - 2 * (_a + 0.5) ** -1.5,
    )
    is_enough = pl.col("a_") >= LEAST_REPORTS
    by_prr = (pl.col("prr") >= LEAST_PRR) & (pl.col("chi_square") >= LEAST_CHI_SQUARE)
    by_ror, by_ic = pl.col("ror_lower") > 1, pl.col("ic025") > 0
    return (
        measured.with_columns(
            is_prr_signal=(by_prr & is_enough).fill_null(False),
            is_ror_signal=by_ror.fill_null(False),
            is_ic_signal=by_ic,
            is_signal=is_enough & by_prr.fill_null(True) & by_ror.fill_null(True) & by_ic,
        )
        .rename({f"{name}_": name for name in "abcd"})
        .select(SafetySignals.column_names())
    )


def _ratio(above: pl.Expr, below: pl.Expr) -> pl.Expr:
    """A ratio that is neither zero nor infinite, else null."""
    return pl.when(above > 0, below > 0, (above / below).is_finite()).then(above / below)


def _finite(value: pl.Expr) -> pl.Expr:
    return pl.when(value.is_finite()).then(value)
