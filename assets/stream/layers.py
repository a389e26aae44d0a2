"""What the tables of all streams have in common, as one view a layer: ``silver.all_streams`` and its like.

A view has only columns that the engine itself declares, so that a new stream, whatever it measures, changes no report
that reads the view.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from assets.stream.contract import BronzeRows, Contract, QuarantineRows
from resources.table import View

NAME = "all_streams"

_POSITIONS = (
    "measured_at",
    "received_at",
    "partition",
    "sequence_number",
    "event_index",
    "event_date",
    "ingest_date",
    "hub_epoch",
)
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bronze": tuple(BronzeRows.columns()),
        "quarantine": tuple(QuarantineRows.columns()),
        "alerts": ("alert_id", "rule", "rule_version", "severity", "threshold", "is_revision", *_POSITIONS),
        "silver": _POSITIONS,
    }
)
"""The columns of each layer that every stream has."""

_OF_ENTITIES = ("silver", "alerts")
_ROWS = {
    "bronze": "One event of any stream as it came from its hub.",
    "quarantine": "One reading of any stream that could not enter silver.",
    "alerts": "One rule of any stream that was broken; `entity_id` is the patient or device.",
    "silver": "One reading of any stream: whose it is, as `entity_id`, and when it was measured and received.",
}


def layers(contracts: Iterable[Contract]) -> list[View]:
    """A view for each layer over the tables of all streams, with a column `stream`."""
    contracts = list(contracts)
    return [
        View(
            f"{role}/{NAME}",
            f"{_ROWS[role]} The columns that all streams have.",
            [each.tables[role] for each in contracts],
            " UNION ALL ".join(_select(role, each) for each in contracts),
        )
        for role in COLUMNS
        if contracts
    ]


def _select(role: str, contract: Contract) -> str:
    # Entities may be numbers in one stream and texts in another.
    entity = [f'CAST("{contract.entity}" AS VARCHAR) AS entity_id'] if role in _OF_ENTITIES else []
    columns = ", ".join([f"'{contract.stream}' AS stream", *entity, *(f'"{name}"' for name in COLUMNS[role])])
    return f"SELECT {columns} FROM {contract.tables[role].sql_name}"
