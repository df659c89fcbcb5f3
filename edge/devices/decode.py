"""Registers to numbers, compiled once per block and cheap per read.

A field says where a value lies in the address space of the device, how it is stored, which register scales it, and by what factor it
becomes SI with the signs of the edge. `compile_block` turns the fields of one request into a function of the answer: one gather of
the registers that matter, one `struct` conversion, one pass of scaling. Everything a device read needs costs a few microseconds.

Not-implemented values (SunSpec Device Information Model Reference, section "Implementation of unimplemented registers": 0xFFFF,
0x8000, 0xFFFFFFFF, accumulator 0, NaN) become `None`, and so do an infinity and a value whose scale factor is not implemented or lies
outside -10 to 10: a number that may be wrong by a power of ten is worse than none.
"""

import functools
import math
import struct
from collections.abc import Callable, Sequence
from operator import itemgetter

import msgspec


class NumberType(msgspec.Struct, frozen=True):
    """How a number is stored: its width in registers, `struct` code and the value that says "not implemented"."""

    size: int
    code: str
    missing: float | None


NUMBER_TYPES: dict[str, NumberType] = {
    "u16": NumberType(1, "H", 0xFFFF),
    "i16": NumberType(1, "h", -0x8000),
    "e16": NumberType(1, "H", 0xFFFF),
    "b16": NumberType(1, "H", 0xFFFF),
    "cnt": NumberType(1, "H", 0xFFFF),
    "sf": NumberType(1, "h", -0x8000),
    "u32": NumberType(2, "I", 0xFFFFFFFF),
    "i32": NumberType(2, "i", -0x80000000),
    "b32": NumberType(2, "I", 0xFFFFFFFF),
    "a32": NumberType(2, "I", 0),
    "u64": NumberType(4, "Q", 0xFFFFFFFFFFFFFFFF),
    "i64": NumberType(4, "q", -0x8000000000000000),
    "a64": NumberType(4, "Q", 0),
    "f32": NumberType(2, "f", None),
    "f64": NumberType(4, "d", None),
}

SCALES: dict[int, tuple[int, int]] = {p: (10 ** max(p, 0), 10 ** max(-p, 0)) for p in range(-10, 11)}
"""Power of ten -> (multiplier, divisor): dividing by 100 rounds correctly where multiplying by 0.01 does not."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a device.

    `address` is the register where it begins, `scale_address` the register that holds its power of ten, `factor` turns the scaled
    number into SI with the signs of the edge. `words_low_first` is for vendors that send the low register of a wide number first.
    """

    name: str
    address: int
    type: str
    scale_address: int | None = None
    factor: float = 1.0
    words_low_first: bool = False

    @property
    def end(self) -> int:
        """The first address behind the field."""
        return self.address + NUMBER_TYPES[self.type].size

    def hull(self) -> tuple[int, int]:
        """The half-open address range that one request must cover so that value and scale belong together."""
        if self.scale_address is None:
            return self.address, self.end
        return min(self.address, self.scale_address), max(self.end, self.scale_address + 1)


Decoder = Callable[[Sequence[int]], list[float | None]]

_Step = tuple[str, float | None, int | None, float]
"""The number in the source of a decoder, the value that says "not implemented", position of its scale factor, factor to SI."""


def compile_block(start: int, fields: Sequence[Field]) -> Decoder:
    """A function from the registers read at `start` to one value per field, in the order of `fields`."""
    gathered: list[int] = []
    codes = ">"
    scale_position: dict[int, int] = {}
    for field in fields:
        if field.scale_address is not None and field.scale_address not in scale_position:
            scale_position[field.scale_address] = len(codes) - 1
            gathered.append(field.scale_address - start)
            codes += "h"
    steps: list[_Step] = []
    for field in fields:
        kind = NUMBER_TYPES[field.type]
        words = range(field.address - start, field.end - start)
        gathered.extend(reversed(words) if field.words_low_first else words)
        scale = None if field.scale_address is None else scale_position[field.scale_address]
        steps.append((f"n[{len(codes) - 1}]", kind.missing, scale, field.factor))
        codes += kind.code
    gather = _gather(gathered)
    pack = struct.Struct(f">{len(gathered)}H").pack
    unpack = struct.Struct(codes).unpack
    count = len(scale_position)
    known: tuple[int, ...] = (0,) * count
    convert = _converter(steps, known)

    def decode(registers: Sequence[int]) -> list[float | None]:
        nonlocal known, convert
        numbers = unpack(pack(*gather(registers)))
        if numbers[:count] != known:
            known = numbers[:count]
            convert = _converter(steps, known)
        return convert(numbers)

    return decode


def _converter(steps: Sequence[_Step], powers: Sequence[int]) -> Callable[[Sequence[float]], list[float | None]]:
    """The conversion of all numbers of a block under the scale factors that it has, which stay the same for years: one list display,
    written out as source and compiled as `collections.namedtuple` does, which takes half the time of a loop over the fields."""
    terms: list[str] = []
    for number, missing, scale, factor in steps:
        power = (1, 1) if scale is None else SCALES.get(powers[scale])
        value = number if scale is None or power is None else f"{number} * {power[0]} / {power[1]}"
        value = value if factor == 1.0 else f"{value} * {factor!r}"
        absent = f"{number} - {number} != 0.0" if missing is None else f"{number} == {missing}"
        terms.append("None" if power is None else f"None if {absent} else {value}")
    made: Callable[[Sequence[float]], list[float | None]] = eval(f"lambda n: [{', '.join(terms)}]", {"__builtins__": {}})
    return made


def _gather(indices: list[int]) -> Callable[[Sequence[int]], tuple[int, ...]]:
    if len(indices) == 1:
        only = indices[0]
        return lambda registers: (registers[only],)
    if indices == list(range(indices[0], indices[0] + len(indices))) if indices else False:
        first, end = indices[0], indices[0] + len(indices)
        return lambda registers: tuple(registers[first:end])
    return itemgetter(*indices) if indices else lambda registers: ()


def encode_number(number: float, number_type: str, *, words_low_first: bool = False) -> tuple[int, ...]:
    """The registers of a raw number (already divided by its scale); `OverflowError` where it does not fit its type."""
    words = number_encoder(number_type)(number)
    return words[::-1] if words_low_first else words


@functools.cache
def number_encoder(number_type: str) -> Callable[[float], tuple[int, ...]]:
    """`encode_number` for one type, high word first."""
    kind = NUMBER_TYPES[number_type]
    pack, unpack = struct.Struct(">" + kind.code).pack, struct.Struct(f">{kind.size}H").unpack

    def encode_float(number: float) -> tuple[int, ...]:
        if not math.isfinite(number):
            raise OverflowError(f"{number} cannot be written as {number_type}")
        return unpack(pack(number))

    def encode_integer(number: float) -> tuple[int, ...]:
        try:
            return unpack(pack(round(number)))
        except struct.error as error:
            raise OverflowError(f"{number} does not fit {number_type}") from error

    return encode_float if kind.code in "fd" else encode_integer
