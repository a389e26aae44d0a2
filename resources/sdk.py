"""Whether the Event Hubs SDK may be bypassed: what is relied upon inside it is tested with one release of it."""

import logging
from functools import cache

import azure.eventhub

TESTED_VERSION = "5.15.1"
"""The release with which tests/contract passed."""

log = logging.getLogger(__name__)


def is_tested() -> bool:
    """Whether the installed release is the tested one; says so if it is not."""
    if azure.eventhub.__version__ == TESTED_VERSION:
        return True
    fall_back(f"release {azure.eventhub.__version__} of azure-eventhub was not tested, {TESTED_VERSION} was")
    return False


@cache
def fall_back(reason: str) -> None:
    """Says, once for each reason, why events go the way that the SDK offers."""
    log.warning(
        "Events are read and sent by the SDK alone, which is slower: %s. PULSELAKE_FAST_AMQP=false avoids this line.",
        reason,
    )
