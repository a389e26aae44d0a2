"""Streams with a start of their own, so that a test names only what it is about."""

from datetime import UTC, datetime
from functools import partial

import pytest

from generator.streams import device_events, glucose_events

START = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def glucose():
    return partial(glucose_events, start=START)


@pytest.fixture
def devices():
    return partial(device_events, start=START)
