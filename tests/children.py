"""The processes that this process has started."""

from contextlib import suppress

import psutil


def children_with(text: str) -> list[psutil.Process]:
    """Those, and what they have started, whose command has a text. Tests before may have left what has ended."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if text in " ".join(each.cmdline()):
                found.append(each)
    return found
