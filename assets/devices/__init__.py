"""Readings that devices send about themselves: battery, connectivity, firmware, errors."""
