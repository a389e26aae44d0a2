"""One load of a synthetic hospital without Dagster, for the demo, and whether every row of it is accounted for."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from assets.clinical.contract import Batch
from assets.clinical.sources import GOLD, SOURCES
from assets.clinical_layers import Gold, Silver
from assets.clinical_loads import Loader
from orchestration.hospital import make_hospital, served_telemetry
from resources.batch_sources import batch_source
from resources.lake import Lake
from resources.landing import Landing
from resources.settings import Settings


@dataclass(frozen=True)
class LoadedSource:
    """What became of the rows of a source, over all loads.

    Attributes:
        name: of the source.
        landed: rows in the files of all loads that were announced; none was killed or rejected.
        bronze, silver, quarantined: rows in the tables.
        duplicates: good rows of bronze whose key a later row has.
    """

    name: str
    landed: int
    bronze: int
    silver: int
    quarantined: int
    duplicates: int

    @property
    def is_reconciled(self) -> bool:
        """Whether every row that was landed is in one place."""
        return self.landed == self.bronze == self.silver + self.quarantined + self.duplicates


def load_hospital(settings: Settings, lake: Lake, *, patients: int, days: int) -> list[LoadedSource]:
    """Makes a hospital, loads all of its sources, and makes silver and gold of them.

    Raises:
        BatchSourceError, LoadError: a source could not be loaded.
    """
    make_hospital(settings.hospital, patients=patients, days=days, until=datetime.now(UTC))
    with served_telemetry(settings.hospital, 0) as address:
        own = settings.model_copy(update={"telemetry_url": address})
        for each in SOURCES:
            source = batch_source(own, each.name, each.setting, each.place, lake)
            Loader(lake, each, lambda: datetime.now(UTC)).load(source)
            Silver(lake, each).refresh()
    for derived in GOLD:
        Gold(lake, derived).refresh()
    return [reconciled(lake, each) for each in SOURCES]


def reconciled(lake: Lake, batch: Batch) -> LoadedSource:
    """Counts what became of a source's rows, each table by itself."""
    bronze = lake.table(batch.bronze).scan().collect()
    parsed = batch.read(bronze)
    good = parsed.filter(pl.col("reason").is_null())
    files = lake.table(batch.state).scan().select("landed_as").drop_nulls().collect().to_series()
    landing = Landing(lake, batch.name)
    return LoadedSource(
        batch.name,
        sum(landing.read(file).height for file in files),
        bronze.height,
        lake.table(batch.silver).count(),
        lake.table(batch.quarantine).count(),
        good.height - good.select(batch.key).n_unique(),
    )
