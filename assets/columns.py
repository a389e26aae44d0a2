"""Columns that tables of several layers have."""

import dataframely as dy


def utc(*, nullable: bool = False) -> dy.Datetime:
    """The column of an instant: UTC, microseconds."""
    return dy.Datetime(nullable=nullable, time_zone="UTC", time_unit="us")
