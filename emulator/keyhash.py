"""Which partition a partition key belongs to: Bob Jenkins' lookup3, as Event Hubs hashes keys."""

import struct

_MASK = 0xFFFFFFFF
_MIX = ((0, 2, 4, 1), (1, 0, 6, 2), (2, 1, 8, 0), (0, 2, 16, 1), (1, 0, 19, 2), (2, 1, 4, 0))
_FINAL = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))


def partition_of(key: bytes, partition_count: int) -> int:
    b, c = lookup3(key)
    hashed = (b ^ c) & 0xFFFF
    if hashed >= 0x8000:
        return (0x10000 - hashed) % partition_count
    return hashed % partition_count


def lookup3(data: bytes) -> tuple[int, int]:
    """The two 32-bit results of `hashlittle2` with both seeds zero."""
    state = [(0xDEADBEEF + len(data)) & _MASK] * 3
    at, left = 0, len(data)
    while left > 12:
        _add(state, struct.unpack_from("<III", data, at))
        for target, source, bits, other in _MIX:
            state[target] = ((state[target] - state[source]) & _MASK) ^ _rotate(state[source], bits)
            state[source] = (state[source] + state[other]) & _MASK
        at, left = at + 12, left - 12
    if left:
        _add(state, struct.unpack("<III", data[at:].ljust(12, b"\0")))
        for target, source, bits in _FINAL:
            state[target] = ((state[target] ^ state[source]) - _rotate(state[source], bits)) & _MASK
    return state[1], state[2]


def _add(state: list[int], words: tuple[int, ...]) -> None:
    for index, word in enumerate(words):
        state[index] = (state[index] + word) & _MASK


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK
