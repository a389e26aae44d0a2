"""Proves a contract when it is loaded: one synthetic reading for each rule goes all the way to a published alert.

A mistake in a declaration would else be found by the first alert. The values are made up from the payload's types, and
those of scores, and of windows that need several readings, from their rules.
Where the domain refuses them the cleaned row is completed, since names and types are proved here, not plausibility.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import ceil, floor
from typing import Any

import msgspec
import polars as pl

from assets.stream.alerting import Alerting
from assets.stream.cleaning import POSITIONS, Cleaning
from assets.stream.contract import Contract, ContractError, Rule, Utc
from assets.stream.decode import Decoder
from assets.stream.enrichment import prove_enriched
from assets.stream.outlet import LATE_AFTER, encoded

_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
_KINDS: dict[type[msgspec.inspect.Type], Any] = {
    msgspec.inspect.IntType: 1,
    msgspec.inspect.FloatType: 1.0,
    msgspec.inspect.StrType: "1",
    msgspec.inspect.BoolType: True,
}


def prove(contract: Contract) -> None:
    """Takes a reading that breaks every rule through decode, clean, rules and the alert's payload.

    Raises:
        ContractError: the message names the stream, the step that failed and the remedy.
    """
    with _step(contract, "payload or clean"):
        row = _cleaned(contract)
    with _step(contract, "enrich"):
        row = _completed(prove_enriched(contract, row))
    with _step(contract, "children"):
        for child in contract.children:
            child.exploded(row)
    if not contract.rules:
        return
    with _step(contract, "windows, rules or columns of alerts"):
        breaking = pl.concat(_breaking(contract, row, number) for number in range(len(contract.rules)))
        alerting = Alerting(contract)
        told = alerting.told(breaking)
        derived = alerting.derived(breaking, breaking.clear(), lambda rows, _: rows.clear(), told)
        alerts = alerting.alerts(alerting.judge(_broken(contract, derived), told))[
            contract.tables.alerts.schema.names()
        ]
        if silent := {rule.id for rule in contract.rules} - set(alerts["rule"]):
            raise ContractError(f"a reading beyond their threshold does not raise {', '.join(sorted(silent))}")
    with _step(contract, "alert_payload"):
        encoded(contract, _AT, LATE_AFTER, alerts)


@contextmanager
def _step(contract: Contract, what: str) -> Iterator[None]:
    try:
        yield
    except (Exception, pl.exceptions.PanicException) as error:
        # Its text is harmless: the reading is made up.
        raise ContractError(
            f"Stream '{contract.stream}': a synthetic reading fails with {type(error).__name__}: {error}. Mend the "
            f"contract's {what}; until then the stream is not loaded."
        ) from error


def _cleaned(contract: Contract) -> pl.DataFrame:
    """A good row of silver, as far as the types of the contract allow one."""
    payload = contract.decoded_payload
    cleaning, decoded = Cleaning(contract), Decoder(payload).decode([msgspec.json.encode(_payload(payload))])
    if decoded.rejects.height:
        raise ContractError(f"the payload refuses a value of its own type ({decoded.rejects['reason'][0]})")
    position = {name: _sample(dtype) for name, dtype in POSITIONS.items()}
    row = cleaning.clean(cleaning.readings(pl.DataFrame([position], schema=POSITIONS), decoded))
    return _completed(row).with_columns(event_date=pl.lit(_AT.date()))


def _completed(row: pl.DataFrame) -> pl.DataFrame:
    """The row with a value in each column."""
    return row.with_columns(
        pl.col(name).fill_null(pl.lit(_sample(dtype), dtype))
        for name, dtype in row.schema.items()
        if not dtype.is_nested()
    )


def _payload(payload: type[msgspec.Struct]) -> dict[str, Any]:
    """A value of each field's first type."""
    values: dict[str, Any] = _value(msgspec.inspect.type_info(payload))
    return values | {"timestamp": _AT.isoformat()} if "timestamp" in values else values


def _value(kind: msgspec.inspect.Type) -> Any:
    match kind:
        case msgspec.inspect.UnionType():
            return _value(kind.types[0])
        case msgspec.inspect.StructType():
            return {field.encode_name: _value(field.type) for field in kind.fields}
        case msgspec.inspect.ListType():
            return [_value(kind.item_type)]
        case _:
            return _KINDS.get(type(kind))


def _breaking(contract: Contract, row: pl.DataFrame, number: int) -> pl.DataFrame:
    """The row with a value beyond a rule, of an entity of its own, so that its windows hold nothing else."""
    rule = contract.rules[number]
    source = {window.name: window.column for window in contract.windows}
    of_rule = {source.get(rule.column, rule.column): _beyond(rule), contract.entity: number}
    if rule.unless is not None:
        of_rule[source.get(rule.unless, rule.unless)] = False
    return row.with_columns(
        pl.lit(each).cast(row.schema[name]).alias(name) for name, each in of_rule.items() if name in row.columns
    )


def _broken(contract: Contract, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with values beyond their rules of scores, and of windows that need several readings.

    Which reading has such a score only the domain could say.
    """
    made_up = {name for score in contract.scores for name in score.columns} | {*contract.spans}
    place = pl.int_range(pl.len())
    for number, rule in enumerate(contract.rules):
        values = {rule.column: _beyond(rule), rule.unless or "": False}
        values = {name: value for name, value in values.items() if name in made_up}
        if (present := contract.present_of(rule.column)) is not None:
            values[present] = _within(rule)
        rows = rows.with_columns(
            pl.when(place == number).then(pl.lit(value).cast(rows.schema[name])).otherwise(name).alias(name)
            for name, value in values.items()
        )
    return rows


def _beyond(rule: Rule) -> float:
    return floor(rule.threshold) + 1 if rule.comparison in ("above", "at_least") else ceil(rule.threshold) - 1


def _within(rule: Rule) -> float:
    return ceil(rule.threshold) - 1 if rule.comparison in ("above", "at_least") else floor(rule.threshold) + 1


def _sample(dtype: pl.DataType) -> Any:
    samples = {pl.Int64(): 1, pl.Float64(): 1.0, pl.Boolean(): True, pl.Date(): _AT.date(), Utc: _AT}
    return samples.get(dtype, "1")
