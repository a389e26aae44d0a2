"""A copy into a lake on Azure's storage, as Azurite has it."""

import polars as pl
import pytest

from resources.lake import Lake
from tests.copying.test_copy import copied, source
from tests.services.azurite import ACCOUNT, Azurite

pytestmark = pytest.mark.service


def test_a_copy_into_azures_storage_is_complete_and_kept(azurite: Azurite, omop_sqlite: str):
    azurite.create_container("copies")
    lake = Lake(f"abfss://copies@{ACCOUNT}.dfs.core.windows.net/lake", azurite.storage_options)
    done = copied(lake, source(omop_sqlite), "measurement", "drug_exposure")
    assert {name: each.outcome for name, each in done.items()} == {"measurement": "copied", "drug_exposure": "empty"}
    rows = pl.read_delta(f"{lake.root}/bronze/measurement", storage_options=lake.polars_options())
    assert rows["measurement_id"].n_unique() == done["measurement"].rows == 750
    assert copied(lake, source(omop_sqlite), "measurement")["measurement"].outcome == "kept"
