"""Many small signed integers in one Paillier plaintext.

A report is a vector of integers (96 or 288 values), a checksum and the head-count 1. Each takes one slot of 32 bits. A slot holds its
value modulo 2^w, to which pads modulo 2^w are added; the sum of at most `members_max + 1` slots stays below 2^32, so no slot carries
into its neighbour, and the sum modulo 2^w, read as a centred digit, is the exact signed sum:

    (members_max + 1) 2^w <= 2^32        and        |value| <= value_max = floor((2^(w-1) - 1) / members_max)

The checksum of a vector x is sum_j alpha_j x_j mod 2^w with public coefficients drawn from the round's beacon. It finds faults and pads
that did not cancel (missed with probability 2^-w). It is no protection against a member who lies: it knows alpha.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from protocols.errors import ProtocolError

SLOT_BITS: Final = 32
EXTRA_SLOTS: Final = 2
"""Checksum and head-count, behind the values."""

Slots = npt.NDArray[np.uint32]
Values = npt.NDArray[np.int64]


class ValuesRefused(ProtocolError):
    """A vector does not fit its slots: wrong length, not integers, or a value beyond what the group size allows."""


class SumRefused(ProtocolError):
    """A decrypted sum is not one of honest reports: wrong checksum, wrong head-count, or bits beyond the slots."""


class Layout(Struct, frozen=True):
    """How a report is laid out: number of values, w, and the largest group. Part of the key card, so all agree on it."""

    values: int
    pad_bits: int = 24
    members_max: int = 192

    def __post_init__(self) -> None:
        if not (1 <= self.values <= 4096 and 8 <= self.pad_bits <= 31 and self.members_max >= 1):
            raise ValuesRefused(f"layout out of range: {self}")
        if (self.members_max + 1) << self.pad_bits > 1 << SLOT_BITS:
            raise ValuesRefused(f"{self.members_max} members with {self.pad_bits}-bit slots would carry between slots")

    @property
    def slots(self) -> int:
        """Slots of one report."""
        return self.values + EXTRA_SLOTS

    @property
    def value_max(self) -> int:
        """Largest magnitude of one value such that the sum over the largest group is exact."""
        return ((1 << (self.pad_bits - 1)) - 1) // self.members_max

    @property
    def mask(self) -> int:
        """2^w - 1."""
        return (1 << self.pad_bits) - 1


def checksum_coefficients(layout: Layout, beacon: bytes) -> Values:
    """alpha: one odd coefficient below 2^w for each value, the same for everybody in the round."""
    data = hashlib.shake_256(b"commonwatt/1 checksum\0" + beacon).digest(4 * layout.values)
    return (np.frombuffer(data, dtype="<u4").astype(np.int64) & layout.mask) | 1


def encode(layout: Layout, values: npt.ArrayLike, alpha: Values) -> Slots:
    """Slots of one report, without pads. Raises `ValuesRefused`; booleans and floats are refused, not rounded."""
    vector = np.asarray(values)
    if vector.dtype.kind not in "iu":
        raise ValuesRefused(f"values of type {vector.dtype}: integers are expected")
    if vector.shape != (layout.values,):
        raise ValuesRefused(f"values of shape {vector.shape}: ({layout.values},) is expected")
    if vector.size and (int(vector.max()) > layout.value_max or int(vector.min()) < -layout.value_max):
        raise ValuesRefused(f"a value exceeds {layout.value_max}, the largest magnitude for {layout.members_max} members")
    exact = vector.astype(np.int64)
    slots = np.empty(layout.slots, dtype=np.int64)
    slots[: layout.values] = exact
    slots[layout.values] = _dot(alpha, exact, layout)
    slots[layout.values + 1] = 1
    return (slots & layout.mask).astype(np.uint32)


def decode(layout: Layout, slots: Slots, alpha: Values) -> tuple[Values, int]:
    """(exact signed sums, number of reports in them). Raises `SumRefused` where the checksum does not fit the sums."""
    reduced = slots.astype(np.int64) & layout.mask
    sums = centred(layout, reduced[: layout.values])
    if _dot(alpha, sums, layout) != int(reduced[layout.values]):
        raise SumRefused("the checksum does not fit the sums: a fault, a missing report, or pads that did not cancel")
    count = int(reduced[layout.values + 1])
    if not 1 <= count <= layout.members_max:
        raise SumRefused(f"head-count {count} lies outside 1..{layout.members_max}")
    return sums, count


def centred(layout: Layout, reduced: npt.NDArray[np.integer]) -> Values:
    """Numbers modulo 2^w as signed digits in [-2^(w-1), 2^(w-1))."""
    digits = reduced.astype(np.int64) & layout.mask
    return np.where(digits >= 1 << (layout.pad_bits - 1), digits - (1 << layout.pad_bits), digits)


def chunk_slots(plaintext_bits: int) -> int:
    """How many slots one plaintext below an n of `plaintext_bits` bits holds."""
    return (plaintext_bits - 1) // SLOT_BITS


def pack(slots: Slots, chunk: int) -> list[int]:
    """The slots as plaintext integers, `chunk` slots in each, first slot lowest."""
    little_endian = slots.astype("<u4", copy=False)
    return [
        int.from_bytes(little_endian[start : start + chunk].tobytes(), "little") for start in range(0, len(slots), chunk)
    ]


def unpack(plaintexts: list[int], slots: int, chunk: int) -> Slots:
    """Inverse of `pack`. Raises `SumRefused` where a plaintext has bits beyond its slots: a member overflowed."""
    parts = []
    for index, plaintext in enumerate(plaintexts):
        width = min(chunk, slots - index * chunk)
        if width < 1 or plaintext.bit_length() > SLOT_BITS * width:
            raise SumRefused(f"plaintext {index} has bits beyond its {max(width, 0)} slots: a report overflowed")
        parts.append(np.frombuffer(plaintext.to_bytes(4 * width, "little"), dtype="<u4"))
    joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)
    if len(joined) != slots:
        raise SumRefused(f"{len(joined)} slots decrypted: {slots} are expected")
    return joined.astype(np.uint32)


def _dot(alpha: Values, values: Values, layout: Layout) -> int:
    """sum alpha_j x_j mod 2^w; products stay below 2^62 because both factors are below 2^31."""
    return int(((alpha * values) & layout.mask).sum()) & layout.mask
