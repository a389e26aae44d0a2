"""The certificates that our clients of HTTP trust."""

import ssl
from functools import cache

import httpx


@cache
def certificates() -> ssl.SSLContext:
    """Those that httpx trusts by itself, read once for the process: it takes as long as a small poll."""
    return httpx.create_ssl_context()
