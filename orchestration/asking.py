"""The system's tables for SQL. It is apart from `system` because most processes ask nothing and need no DuckDB."""

from assets.copied import copied_tables
from orchestration.system import SQL, tables, views
from resources.analytics import Analytics
from resources.lake import Lake
from resources.reports import reports, stored_reports
from resources.settings import Settings


def analytics(lake: Lake, settings: Settings) -> Analytics:
    """DuckDB over all tables, the views over all streams and the reports that were built, with the settings' limits."""
    return Analytics(
        lake,
        [*tables(), *copied_tables(lake), *stored_reports(lake, reports(SQL / "reports"))],
        views(),
        memory_limit=settings.sql_memory,
        timeout_s=settings.sql_timeout_s,
    )
