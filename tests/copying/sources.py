"""Sources of copies that are closed after the test which opens them."""

from contextlib import ExitStack, closing

from resources.copy_source import CopySource
from resources.copy_sources import copy_source

SOURCES = ExitStack()
"""What is open; the fixtures of this folder close it after each test."""


def opened(url: str) -> CopySource:
    """What `copy_source` gives, until the test has ended."""
    return SOURCES.enter_context(closing(copy_source(url)))
