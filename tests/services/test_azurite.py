import polars as pl
import pytest
from deltalake import write_deltalake

from tests.services.azurite import ACCOUNT, Azurite

pytestmark = pytest.mark.service


def test_five_delta_commits_are_read_back_by_polars(azurite: Azurite) -> None:
    azurite.create_container("lake")
    table = f"abfss://lake@{ACCOUNT}.dfs.core.windows.net/t"

    for commit in range(5):
        frame = pl.DataFrame({"commit": [commit, commit], "row": [0, 1]})
        write_deltalake(table, frame, mode="append", storage_options=azurite.storage_options)

    stored = pl.scan_delta(table, storage_options=azurite.storage_options).sort("commit", "row").collect()
    assert stored.rows() == [(commit, row) for commit in range(5) for row in range(2)]


def test_two_services_run_side_by_side_and_end_with_their_block(azurite: Azurite, tmp_path) -> None:
    with Azurite(tmp_path) as other:
        assert other.blob_endpoint != azurite.blob_endpoint
        other.create_container("lake")
        process = other._process
        assert process is not None
    assert process.returncode is not None
