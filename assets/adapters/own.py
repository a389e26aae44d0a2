"""Pulselake's own payloads, where an app posts them with a token that says whose they are."""

from collections.abc import Iterator
from typing import Any

from assets.adapters.outcomes import Context, Outcome, Plain, Reject
from assets.stream.decode import NOT_AN_OBJECT

SYSTEM = "pulselake"


def is_document(_: Any) -> bool:
    """Never: what has Pulselake's words is decoded without an adapter, unless its sender declares this format."""
    return False


def adapt(document: Any, context: Context) -> Iterator[Outcome]:
    """The objects of a document, which is one of them or a list."""
    members = document if isinstance(document, list) else [document]
    for member in members:
        yield Plain(member) if isinstance(member, dict) else Reject(NOT_AN_OBJECT)
