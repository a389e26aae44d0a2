"""The gold table of the device domain, and what it is added up from. Pure declarations; see `slots` and `gold`."""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table


def _percent() -> dy.Float64:
    return dy.Float64(nullable=False, min=0, max=100)


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


def _sum() -> dy.Int64:
    return dy.Int64(nullable=False)


class DeviceSlots(dy.Schema):
    """What the reports of one device in a quarter of an hour of one event date come to.

    Key: device_id, event_date, slot. Sums of levels are in millionths of a percent, those of times in microseconds
    since the slot began. Sums in two columns are `…_high` x 2^32 + `…_low`.
    """

    device_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    slot = dy.Int64(primary_key=True)
    reading_count = _sum()
    first_at = utc()
    last_at = utc()
    battery_min_percent = _percent()
    battery_last_percent = _percent()
    battery_sum = _sum()
    time_sum = _sum()
    time_square_sum_high = _sum()
    time_square_sum_low = _sum()
    time_battery_sum_high = _sum()
    time_battery_sum_low = _sum()
    connected_count = _sum()
    poor_connection_count = _sum()
    disconnected_count = _sum()
    error_count = _sum()
    err1_count = _sum()
    err2_count = _sum()
    err3_count = _sum()


class DeviceHealth(dy.Schema):
    """How one device fared on one day, by its own reports. Key: device_id, event_date."""

    device_id = dy.Int64(primary_key=True)
    event_date = dy.Date(primary_key=True)
    reading_count = dy.Int64(nullable=False, min=1)
    last_seen_at = utc()
    battery_min_percent = _percent()
    battery_last_percent = _percent()
    battery_slope_percent_per_day = dy.Float64(nullable=True)
    connected_percent = _percent()
    poor_connection_percent = _percent()
    disconnected_percent = _percent()
    error_count = _count()
    err1_count = _count()
    err2_count = _count()
    err3_count = _count()
    silent_gap_count = _count()
    longest_silent_gap_minutes = dy.Float64(nullable=True, min=0)


DEVICE_HEALTH = Table("gold/device_health", DeviceHealth, ("event_date",))
GOLD = (DEVICE_HEALTH,)
