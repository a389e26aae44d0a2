"""Clinical tables and landed files in Azure's storage, as in a folder."""

import polars as pl
import pytest

from assets.clinical.sources import EHR, GOLD
from assets.clinical_layers import Gold
from resources.lake import Lake
from resources.landing import write_page
from tests.clinical.hospital import NOON, Database, loader, reading, silver
from tests.services.azurite import ACCOUNT, Azurite

pytestmark = pytest.mark.service


def test_a_source_is_loaded_into_azures_storage(azurite: Azurite, tmp_path):
    azurite.create_container("clinical")
    lake = Lake(f"abfss://clinical@{ACCOUNT}.dfs.core.windows.net/lake", azurite.storage_options)
    database = Database(tmp_path)
    database.insert(*(reading(number) for number in range(10)))
    assert loader(lake).load(database.source()).rows == 10
    assert loader(lake).load(database.source()).rows == 0
    silver(lake).refresh()
    [monitoring, *_] = GOLD
    assert Gold(lake, monitoring).refresh() == 3
    bronze = lake.table(EHR.bronze)
    bronze.replace([], "load_date = '2026-11-20'")
    assert loader(lake).rebuild(NOON.date()).rows == 10
    assert sorted(bronze.scan().collect()["id"]) == list(range(10))
    write_page(lake, "pages/a.html", "ü")
    page = pl.scan_csv(f"{lake.root}/pages/a.html", has_header=False, storage_options=lake.polars_options())
    assert page.collect().item() == "ü"
