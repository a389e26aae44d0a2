"""What becomes of memory that a process has given back."""

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD, _LARGE = -3, 256 << 10


def return_large_buffers() -> None:
    """Makes the C library return large buffers to the system at once, instead of keeping them for the next ones.

    By itself it keeps more and more of them, for each thread: a copy held 400 MB where it needs 260. Without glibc it
    does nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
