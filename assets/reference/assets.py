"""Reference data in Dagster: tables that are loaded from outside, so that nothing here makes them."""

import dagster as dg

from assets.reference.tables import GROUP, REFERENCES


def reference_assets() -> list[dg.AssetSpec]:
    """The tables of reference data."""
    return [
        dg.AssetSpec(
            dg.AssetKey(each.table.name.split("/")),
            description=each.table.description,
            group_name=GROUP,
            kinds={"deltalake"},
            tags={"phi": "true" if each.phi else "false"},
        )
        for each in REFERENCES
    ]
