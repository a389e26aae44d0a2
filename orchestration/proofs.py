"""When contracts are proved: at once, or later in another process where this one must not use the engine of Polars.

What a proof is stands in assets/stream/proof.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from assets.stream.contract import Contract
from assets.stream.proof import prove

_postponed: list[Contract] | None = None


def require_proof(contract: Contract) -> None:
    """Proves a contract, unless this is postponed.

    Raises:
        ContractError: the contract contradicts itself.
    """
    if _postponed is None:
        prove(contract)
    else:
        _postponed.append(contract)


@contextmanager
def postponed() -> Iterator[list[Contract]]:
    """Collects the contracts that the block loads instead of proving them."""
    global _postponed  # noqa: PLW0603 - streams are made by importing a module, so nothing can be passed to them
    contracts: list[Contract] = []
    _postponed = contracts
    try:
        yield contracts
    finally:
        _postponed = None
