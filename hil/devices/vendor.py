"""Registers of devices that are not SunSpec: points at the addresses of a vendor's table.

A table is written as `VendorPoint`s with the address, raw type and factor that the vendor documents (value = raw number / factor).
Points that follow each other without a hole make one block. Nothing else exists: a read that touches an address in a hole is refused
with exception 2, unless the table bridges it with `reserved`.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence

import msgspec

from hil.devices.registers import ILLEGAL_ADDRESS, Block, ModbusRefusal

CODES = {"uint16": ("H", 1), "int16": ("h", 1), "uint32": ("I", 2), "int32": ("i", 2), "float32": ("f", 2), "float64": ("d", 4)}
CODES |= {"uint64": ("Q", 4), "int64": ("q", 4)}
BOUNDS = {
    "uint16": (0, 0xFFFF),
    "int16": (-0x8000, 0x7FFF),
    "uint32": (0, 0xFFFFFFFF),
    "int32": (-0x80000000, 0x7FFFFFFF),
    "uint64": (0, 0xFFFFFFFFFFFFFFFF),
    "int64": (-0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
}

Numbers = Mapping[str, float]


class VendorPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a vendor's table; `type` is one of CODES or "string" with its width in `registers`.

    `missing` is the raw number by which the vendor says "not available", where there is one; floats say it with not-a-number.
    """

    address: int
    name: str
    type: str
    factor: float = 1.0
    writable: bool = False
    registers: int = 0
    missing: int | float | None = None

    @property
    def width(self) -> int:
        """How many registers the point takes."""
        return self.registers if self.type in ("string", "reserved") else CODES[self.type][1]

    @property
    def absent(self) -> int | float | None:
        """The raw number that says "not available"."""
        return math.nan if self.missing is None and self.type.startswith("float") else self.missing

    @property
    def is_wide_number(self) -> bool:
        """Whether the point is a number of more than one register."""
        return self.width > 1 and self.type not in ("string", "reserved")

    @property
    def code(self) -> str:
        """The `struct` format of the raw value."""
        return f"{2 * self.registers}s" if self.type in ("string", "reserved") else CODES[self.type][0]


def reserved(address: int, registers: int) -> VendorPoint:
    """Addresses that exist, mean nothing and read as zero."""
    return VendorPoint(address=address, name=f"reserved {address}", type="reserved", registers=registers)


class VendorBlock:
    """Consecutive points; `live` gives all values, `commands` takes writes."""

    def __init__(
        self,
        points: Sequence[VendorPoint],
        live: Callable[[], Mapping[str, float | str]],
        commands: Callable[[Numbers], None],
        *,
        measures: bool,
        low_word_first: bool,
    ) -> None:
        self.base = points[0].address
        self.registers = sum(point.width for point in points)
        self.measures = measures
        self._points = tuple(points)
        self._live = live
        self._commands = commands
        self._low_word_first = low_word_first
        self._struct = struct.Struct(">" + "".join(point.code for point in points))
        self._swapped = [
            (2 * (point.address - self.base), 2 * (point.address - self.base + point.width))
            for point in points
            if low_word_first and point.is_wide_number
        ]

    def encode(self, image: bytearray, offset: int, *, blank: bool) -> None:
        """Write every point into the image."""
        values = self._live()
        raw = [_raw(point, values, blank=blank) for point in self._points]
        self._struct.pack_into(image, offset, *raw)
        for first, last in self._swapped:
            image[offset + first : offset + last] = _words_reversed(bytes(image[offset + first : offset + last]))

    def needs_image(self, first: int, count: int) -> bool:
        """Only whole points are taken."""
        return False

    def write(self, first: int, data: bytes, image: bytearray, offset: int) -> None:
        """Take a write of whole points, all of them writable."""
        del image, offset
        address, end = self.base + first, self.base + first + len(data) // 2
        values: dict[str, float] = {}
        for point in self._points:
            if point.address + point.width <= address or point.address >= end:
                continue
            if not point.writable or point.address < address or point.address + point.width > end:
                raise ModbusRefusal(ILLEGAL_ADDRESS)
            start = 2 * (point.address - address)
            part = data[start : start + 2 * point.width]
            if self._low_word_first and point.is_wide_number:
                part = _words_reversed(part)
            values[point.name] = struct.unpack(">" + point.code, part)[0] / point.factor
        self._commands(values)


def vendor_segments(
    points: Sequence[VendorPoint],
    live: Callable[[], Mapping[str, float | str]],
    commands: Callable[[Numbers], None],
    *,
    measures: bool = True,
    low_word_first: bool = False,
    whole_points: bool = False,
) -> list[tuple[int, list[Block]]]:
    """The segments of a table, one for each run of points without a hole, or one for each point where a read must not cross."""
    segments: list[tuple[int, list[Block]]] = []
    run: list[VendorPoint] = []

    def finish() -> None:
        if run:
            block = VendorBlock(tuple(run), live, commands, measures=measures, low_word_first=low_word_first)
            segments.append((run[0].address, [block]))
            run.clear()

    for point in sorted(points, key=lambda point: point.address):
        if run and (whole_points or point.address != run[-1].address + run[-1].width):
            assert point.address >= run[-1].address + run[-1].width, f"{point.name} overlaps {run[-1].name}"
            finish()
        run.append(point)
    finish()
    return segments


def _raw(point: VendorPoint, values: Mapping[str, float | str], *, blank: bool) -> int | float | bytes:
    kind = point.type
    if kind == "reserved":
        return b""
    value = values[point.name]
    if kind == "string":
        return str(value).encode("ascii")
    if blank and not point.writable and point.absent is not None:
        return point.absent
    number = value * point.factor  # type: ignore[operator]
    if kind in ("float32", "float64"):
        return number
    low, high = BOUNDS[kind]
    return min(max(round(number), low), high)


def _words_reversed(data: bytes) -> bytes:
    return b"".join(data[index : index + 2] for index in range(len(data) - 2, -1, -2))
