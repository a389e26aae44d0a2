"""What the settings say of a session: when it acts and ends, and where its figures are kept."""

import math
from datetime import timedelta

from assets.stream.contract import Contract
from assets.stream.session import SessionLimits
from resources.metrics import SessionMetrics
from resources.settings import Settings


def limits_of(settings: Settings, contract: Contract) -> SessionLimits:
    """When a session of the settings acts and ends."""
    return SessionLimits(
        commit_interval_s=contract.commit_every.total_seconds(),
        idle_timeout_s=settings.idle_timeout_s or math.inf,
        maintains_at_end=True,
        late_after=timedelta(seconds=settings.late_alert_after_s),
    )


def observer_of(contract: Contract, settings: Settings) -> SessionMetrics:
    """Keeps the figures of a session where the endpoint of the settings finds them."""
    rules = [(rule.id, rule.severity) for rule in contract.rules]
    return SessionMetrics(contract.stream, settings.metrics, rules)
