"""From decoded payloads to readings or reasons: the domain's `clean`, and what the engine asks of its result.

Whatever domain code does with one reading costs that reading only.
"""

import polars as pl

from assets.stream.contract import (
    FUTURE_TOLERANCE,
    MAX_AVERAGED,
    POSITION_COLUMNS,
    Contract,
    ContractError,
    Last,
    Utc,
)
from assets.stream.decode import INSTANT, Decoded
from assets.stream.instants import instants, possible
from assets.stream.isolation import isolated

POSITIONS = pl.Schema(
    {
        "partition": pl.Int64(),
        "sequence_number": pl.Int64(),
        "received_at": pl.Datetime("us", "UTC"),
        "pulled_at": pl.Datetime("us", "UTC"),
        "hub_epoch": pl.Int64(),
        "key": pl.String(),
        "properties": pl.String(),
        "annotations": pl.String(),
    }
)
"""What an event brings besides its body."""
PLACE = ["event", "event_index"]
"""Which event of a micro-batch a reading is of, and which of its readings it is."""
_ENGINE_COLUMNS = POSITION_COLUMNS | {"event", "pulled_at"}


class Cleaning:
    """Cleans the readings of one stream."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._cleaned = _cleaned_schema(contract)
        self._has_timestamp = "timestamp" in contract.payload.__struct_fields__
        self._required = [name for name in contract.tables.silver.required if name in self._cleaned]
        averaged = (window.column for window in contract.windows if not isinstance(window, Last))
        self._averaged = list(dict.fromkeys(averaged))

    def readings(self, positions: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
        """Decoded readings with their time, and with what is known of their events: what `clean` takes."""
        rows, events = decoded.readings, with_counts(positions, decoded)
        each_is_its_event = decoded.rejects.is_empty() and rows.height == events.height
        events = events if each_is_its_event else events[rows["event"]]
        if self._has_timestamp:
            rows = rows.hstack([_measured_at(rows).alias("measured_at")])
        return rows.hstack(events)

    def cleaned(self, readings: pl.DataFrame) -> pl.DataFrame:
        """The readings with silver's columns, and with a `reason` where one belongs into quarantine."""
        cleaned = pl.concat(isolated(readings, self.clean, self._failed))
        time = cleaned["measured_at"]
        cleaned = cleaned.with_columns(time.dt.date().alias("event_date"))
        is_future = time > cleaned["received_at"] + FUTURE_TOLERANCE
        if time.null_count() or is_future.any():
            of_time = pl.when(time.is_null()).then(pl.lit("bad_timestamp")).when(is_future)
            cleaned = cleaned.with_columns(reason=pl.coalesce("reason", of_time.then(pl.lit("in_the_future"))))
        return self._within_contract(cleaned)

    def clean(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What the domain makes of the readings, in their order and with the declared types.

        Raises:
            ContractError: readings are missing or doubled, or columns are not those of the contract.
        """
        cleaned = self._contract.clean(rows)
        names = list(self._cleaned)
        if missing := [name for name in names if name not in cleaned.columns]:
            time = " (which the engine makes of a payload's field `timestamp`)" if "measured_at" in missing else ""
            raise ContractError(f"clean returns no {', '.join(missing)}{time}")
        cleaned = cleaned[names]
        if cleaned.schema != self._cleaned:
            cleaned = cleaned.cast({n: t for n, t in self._cleaned.items() if cleaned.schema[n] == pl.Null})
        if cleaned.schema != self._cleaned:
            raise ContractError("clean returns columns of other types than silver has")
        if not cleaned[PLACE].equals(rows[PLACE]):
            cleaned = cleaned.sort(PLACE)
            if not cleaned[PLACE].equals(rows[PLACE]):
                raise ContractError("clean drops or doubles readings")
        return cleaned

    def _failed(self, row: pl.DataFrame, failure: str) -> pl.DataFrame:
        """A reading on which the domain's code fails: it keeps its position and gets a reason."""
        positions = row[[name for name in self._cleaned if name in row.columns and name in _ENGINE_COLUMNS]]
        others = pl.DataFrame(schema={n: t for n, t in self._cleaned.items() if n not in positions.columns})
        failed = pl.concat([positions, others], how="diagonal")
        return failed.with_columns(reason=pl.lit(failed_by(failure)))[list(self._cleaned)]

    def _within_contract(self, cleaned: pl.DataFrame) -> pl.DataFrame:
        """Refuses readings that silver or a window could not hold."""
        required = [name for name in self._required if cleaned[name].null_count()]
        lacks = pl.any_horizontal(pl.lit(False), *(pl.col(name).is_null() for name in required))
        beyond = [name for name in self._averaged if not _is_averaged(cleaned[name])]
        exceeds = pl.any_horizontal(pl.lit(False), *(~_within_bounds(pl.col(name)) for name in beyond))
        if not required and not beyond:
            return cleaned
        reason = (
            pl.when(lacks)
            .then(pl.lit(failed_by("ContractError")))
            .when(exceeds)
            .then(pl.lit(failed_by("OverflowError")))
        )
        return cleaned.with_columns(reason=pl.coalesce("reason", reason))


def _measured_at(rows: pl.DataFrame) -> pl.Series:
    """The instants of decoded readings: of those of other systems they are known, of others they are in a text."""
    if INSTANT not in rows.columns or (found := rows[INSTANT]).null_count() == rows.height:
        return instants(rows, "timestamp")
    others = found.is_null().arg_true()
    return possible(found.scatter(others, instants(rows[others], "timestamp")) if others.len() else found)


def failed_by(failure: str) -> str:
    """The quarantine reason for a reading on which code fails."""
    return f"failed:{failure}"


def with_counts(positions: pl.DataFrame, decoded: Decoded) -> pl.DataFrame:
    """What is known of events besides their bodies, with their ingest dates and the number of their readings."""
    return positions.hstack([decoded.reading_counts, positions["pulled_at"].dt.date().alias("ingest_date")])


def _cleaned_schema(contract: Contract) -> pl.Schema:
    """What the engine takes from cleaned readings: their place, silver's columns and the reason."""
    others = {"event_date", *contract.enriched}
    silver = {name: dtype for name, dtype in contract.tables.silver.schema.items() if name not in others}
    lists = {child.column: child.element(contract.tables.silver.schema) for child in contract.children}
    return pl.Schema({"event": pl.Int64()} | silver | lists | {"pulled_at": Utc, "reason": pl.String()})


def _is_averaged(values: pl.Series) -> bool:
    """Whether a window can average all of the values that are there."""
    return values.is_between(-MAX_AVERAGED, MAX_AVERAGED).all()


def _within_bounds(value: pl.Expr) -> pl.Expr:
    return value.is_between(-MAX_AVERAGED, MAX_AVERAGED).fill_null(True)
