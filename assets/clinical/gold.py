"""What silver of the clinical sources comes to: by patient and day, by trial, by document, by device and day. Pure."""

from collections.abc import Mapping

import polars as pl

from assets.clinical.tables import (
    DevicePerformance,
    DocumentIndex,
    PatientMonitoring,
    PatientMonitoringByKind,
    TrialSummary,
)

Frames = Mapping[str, pl.DataFrame]
"""Rows of silver by the source's name."""

ADVERSE, ALERT, ERROR = "adverse", "alert", "error"
"""Kinds of log entries and of events that are counted."""
OFFLINE = ("offline", "disconnected")

_reading = pl.col("reading")


def _figures() -> dict[str, pl.Expr]:
    return {
        "avg_reading": _reading.mean(),
        "min_reading": _reading.min(),
        "max_reading": _reading.max(),
        "event_count": _whole(pl.len()),
        "outlier_count": _whole(pl.col("is_outlier").sum()),
    }


def patient_monitoring(silver: Frames) -> pl.DataFrame:
    """Rows of `PatientMonitoring` from rows of ``ehr``."""
    key = ("patient_id", "event_date")
    # A mean of floats depends on their order.
    return PatientMonitoring.validate(
        silver["ehr"]
        .sort(*key, "measured_at")
        .group_by(key, maintain_order=True)
        .agg(**_figures(), kind_count=_whole(pl.col("kind").n_unique()))
    )


def patient_monitoring_by_kind(silver: Frames) -> pl.DataFrame:
    """Rows of `PatientMonitoringByKind` from rows of ``ehr``."""
    key = ("patient_id", "event_date", "kind")
    return PatientMonitoringByKind.validate(
        silver["ehr"].sort(*key, "measured_at").group_by(key, maintain_order=True).agg(**_figures())
    )


def trial_summary(silver: Frames) -> pl.DataFrame:
    """Rows of `TrialSummary` from rows of ``trials`` and ``trial_logs``."""
    logs = (
        silver["trial_logs"]
        .group_by("trial_id")
        .agg(
            site_count=pl.col("site").drop_nulls().n_unique(),
            log_count=pl.len(),
            adverse_log_count=(pl.col("kind").str.to_lowercase() == ADVERSE).sum(),
            last_logged_at=pl.col("logged_at").max(),
        )
    )
    share = pl.col("enrolled") / pl.col("target_enrolment")
    return TrialSummary.validate(
        silver["trials"]
        .join(logs, on="trial_id", how="left")
        .with_columns(
            pl.when(pl.col("target_enrolment") > 0).then(share).alias("enrolled_share"),
            *(_whole(pl.col(name).fill_null(0)) for name in ("site_count", "log_count", "adverse_log_count")),
        )
        .select(TrialSummary.column_names())
        .sort("trial_id")
    )


def document_index(silver: Frames) -> pl.DataFrame:
    """Rows of `DocumentIndex` from rows of ``documents``."""
    return DocumentIndex.validate(
        silver["documents"]
        .with_columns(same_content_count=_whole(pl.len().over("sha256") - 1))
        .select(DocumentIndex.column_names())
        .sort("path")
    )


def device_performance(silver: Frames) -> pl.DataFrame:
    """Rows of `DevicePerformance` from rows of ``device_events`` and ``telemetry``."""
    key = ("device_id", "event_date")
    kind = pl.col("kind").str.to_lowercase()
    events = (
        silver["device_events"]
        .group_by(key)
        .agg(
            event_count=pl.len(),
            alert_count=(kind == ALERT).sum(),
            error_count=(kind == ERROR).sum(),
            last_event_at=pl.col("occurred_at").max(),
        )
    )
    telemetry = (
        silver["telemetry"]
        .sort(*key, "measured_at")
        .group_by(key, maintain_order=True)
        .agg(
            telemetry_count=pl.len(),
            offline_count=pl.col("device_status").str.to_lowercase().is_in(OFFLINE).sum(),
            battery_min_percent=pl.col("battery_percent").min(),
            battery_last_percent=pl.col("battery_percent").drop_nulls().last(),
            signal_mean_dbm=pl.col("signal_dbm").mean(),
            last_telemetry_at=pl.col("measured_at").max(),
        )
    )
    counts = ("event_count", "alert_count", "error_count", "telemetry_count", "offline_count")
    return DevicePerformance.validate(
        events.join(telemetry, on=key, how="full", coalesce=True)
        .with_columns(
            *(_whole(pl.col(name).fill_null(0)) for name in counts),
            last_seen_at=pl.max_horizontal("last_event_at", "last_telemetry_at"),
        )
        .select(DevicePerformance.column_names())
        .sort(key)
    )


def _whole(count: pl.Expr) -> pl.Expr:
    return count.cast(pl.Int64)
