"""What the store does with alarms besides writing them: remove old ones, and note which readings raised them.

Readings are found by statements that lock nothing, and noted by others, so that those who write readings never wait.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Select, and_, case, func, select, update

from resources.store import Store
from resources.store_tables import AlertLifecycle, Alerts, GlucoseReadings

NO_READING = ("silence", "refused")
"""The causes of alarms that no reading raised."""
LINKED_AT_ONCE = 2_000
"""Of how many old alarms readings are looked for at once."""
NOTED_ROWS = 500
"""How many alarms one statement notes; Azure SQL allows 2,100 values."""


def sweep(store: Store, stream: str, generation: int) -> None:
    """Removes the alarms of a stream, and transitions of its alarms, that a new filling did not write."""
    store.remove(Alerts.__tablename__, and_(Alerts.stream == stream, Alerts.sync_generation != generation))
    of_stream = select(Alerts.alert_id).where(Alerts.stream == stream)
    is_old = AlertLifecycle.sync_generation != generation
    store.remove(AlertLifecycle.__tablename__, and_(AlertLifecycle.alert_id.in_(of_stream), is_old))


def expire(store: Store, stream: str, states: Sequence[str], before: date) -> int:
    """Removes alarms of a stream, with their transitions, that have some states since before an ingest date.

    Returns:
        How many alarms were removed.
    """
    is_due = and_(Alerts.stream == stream, Alerts.state.in_(states), Alerts.ingest_date < before)
    # The database removes their transitions with them.
    return store.remove(Alerts.__tablename__, is_due)


def link_new(store: Store, stream: str, since: date) -> None:
    """Notes the readings that raised alarms: of their patients, at the instants at which they were raised.

    Args:
        store: the store.
        stream: whose readings `GlucoseReadings` has.
        since: the ingest date from which on alarms are looked at.
    """
    _note(store, store.selected(_alarms_with_readings(stream).where(Alerts.ingest_date >= since)))


def link_page(store: Store, stream: str, after: str) -> str | None:
    """The same of the next alarms behind one, in the order of their ids, whatever their age.

    Returns:
        The last one that was looked at; None if there are no more.
    """
    behind = _alarms_with_readings(stream).where(Alerts.alert_id > after)
    found = store.selected(behind.order_by(Alerts.alert_id).limit(LINKED_AT_ONCE))
    _note(store, found)
    return found[-1][0] if len(found) == LINKED_AT_ONCE else None


def _alarms_with_readings(stream: str) -> Select[str, int | None]:
    """Alarms that name no reading, each with the number of that which raised it, or null."""
    # Of each alarm by itself, so that an index gives the reading and no temporary table is made. Two devices of a
    # patient may have measured at one instant.
    number = (
        select(func.min(GlucoseReadings.reading_id))
        .where(GlucoseReadings.timestamp == Alerts.timestamp, GlucoseReadings.patient_id == Alerts.patient_id)
        .correlate(Alerts)
        .scalar_subquery()
    )
    is_due = and_(Alerts.stream == stream, Alerts.reading_id.is_(None), Alerts.alert_type.not_in(NO_READING))
    return select(Alerts.alert_id, number).where(is_due)


def _note(store: Store, found: Sequence[tuple[Any, ...]]) -> None:
    for part in _batched([each for each in found if each[1] is not None]):
        numbers = case(dict(part), value=Alerts.alert_id)
        ids = [alert_id for alert_id, _ in part]
        store.apply(update(Alerts).where(Alerts.alert_id.in_(ids)).values(reading_id=numbers))


def unlink_readings(store: Store, stream: str) -> None:
    """Takes away the numbers of readings that are not there any more, or are of others."""
    is_of = and_(
        GlucoseReadings.reading_id == Alerts.reading_id,
        GlucoseReadings.timestamp == Alerts.timestamp,
        GlucoseReadings.patient_id == Alerts.patient_id,
    )
    gone = (
        select(Alerts.alert_id)
        .outerjoin(GlucoseReadings, is_of)
        .where(Alerts.stream == stream, Alerts.reading_id.is_not(None), GlucoseReadings.reading_id.is_(None))
    )
    for part in _batched(store.selected(gone)):
        ids = [alert_id for [alert_id] in part]
        store.apply(update(Alerts).where(Alerts.alert_id.in_(ids)).values(reading_id=None))


def _batched(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Rows as many as one statement notes."""
    for first in range(0, len(rows), NOTED_ROWS):
        yield rows[first : first + NOTED_ROWS]
