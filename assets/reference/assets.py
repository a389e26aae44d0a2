"""Reference data in Dagster: tables that are loaded from outside, so that nothing here makes them."""

import dagster as dg

from assets.reference.rules import RULES
from assets.reference.tables import GROUP, REFERENCES


def reference_assets() -> list[dg.AssetSpec]:
    """The tables of reference data."""
    tables = {each.table: each.phi for each in REFERENCES} | {RULES: True}
    return [
        dg.AssetSpec(
            dg.AssetKey(table.name.split("/")),
            description=table.description,
            group_name=GROUP,
            kinds={"deltalake"},
            tags={"phi": "true" if phi else "false"},
        )
        for table, phi in tables.items()
    ]
