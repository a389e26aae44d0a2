"""The reports of `sql/reports` as Delta tables, made by DuckDB."""

from collections.abc import Sequence

import dagster as dg
import polars as pl
from deltalake import write_deltalake

from resources.analytics import Analytics
from resources.dagster_resources import LakeResource
from resources.lake import CONFIGURATION, Lake
from resources.reports import Report
from resources.table import Table


def report_table_name(report: Report) -> str:
    """Where a report's rows stand in the lake."""
    return f"gold/report_{report.name}"
