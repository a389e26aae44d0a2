"""The Event Hubs SDK itself: whether it may be bypassed, and what it leaves out.

What is relied upon inside it is tested with one release of it.
"""

import logging
from functools import cache, partial

import azure.eventhub
from azure.eventhub._pyamqp import _decode

TESTED_VERSION = "5.15.1"
"""The release with which tests/contract passed."""

# AMQP 1.0, 1.6: char, decimal32 and decimal64 by their constructors, and their widths.
_CHAR, _UNREAD_WIDTHS = 0x73, {0x73: 4, 0x74: 4, 0x84: 8}

log = logging.getLogger(__name__)


def read_all_types() -> None:
    """Lets the SDK read the types of AMQP that it leaves out: an event with one could never be read, nor what follows.

    A decimal is read as bytes.
    """
    for constructor, width in _UNREAD_WIDTHS.items():
        if _decode._DECODE_BY_CONSTRUCTOR[constructor] is None:
            _decode._DECODE_BY_CONSTRUCTOR[constructor] = partial(_fixed, constructor, width)


def _fixed(constructor: int, width: int, buffer: memoryview) -> tuple[memoryview, bytes]:
    value = bytes(buffer[:width])
    if constructor == _CHAR:
        value = value.decode("utf-32-be", "replace").encode()
    return buffer[width:], value


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
