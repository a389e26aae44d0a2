"""The gold table of the device domain. Pure declarations; how it is derived is in `gold`."""

import dataframely as dy

from assets.stream.contract import utc
from resources.table import Table


def _percent() -> dy.Float64:
    return dy.Float64(nullable=False, min=0, max=100)


def _count() -> dy.Int64:
    return dy.Int64(nullable=False, min=0)


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
