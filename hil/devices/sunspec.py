"""One SunSpec model as a block of registers, and the chain of models that makes a SunSpec map.

A block is given `fixed` values (ratings, settings, scale factors), a function for its `live` values and, where it can be commanded, a
function that takes `commands`. All three speak in the units of the SunSpec definitions (W, V, % ...), never in raw numbers. Points
that are in none of them read as not implemented and cannot be written. Live values that do not fit their raw type saturate, as they
do in an inverter; with `autorange` the device chooses the scale factor that fits instead, at run time, as some vendors do.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence

import msgspec

from hil.devices.layouts import TYPES, PointLayout, sunspec_layout
from hil.devices.registers import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Block, FixedBlock, ModbusRefusal

Value = float | int | str | None
Live = Callable[[], Mapping[str, Value]]
Commands = Callable[[Mapping[str, float]], None]

FINEST_SCALE = -2
"""The smallest exponent that an autoranging device chooses."""


class _Touched(msgspec.Struct, frozen=True, kw_only=True):
    """The points that a write to one range of registers touches, and whether they take it."""

    points: list[PointLayout]
    first: int
    registers: int
    layout: struct.Struct
    writable: bool


class SunSpecBlock:
    """One model, ID and L included."""

    def __init__(
        self,
        model_id: int,
        fixed: Mapping[str, Value],
        *,
        live: Live | None = None,
        commands: Commands | None = None,
        repeats: int = 0,
        drop_pad: bool = False,
        autorange: bool = False,
        measures: bool = False,
    ) -> None:
        layout = sunspec_layout(model_id)
        points = layout.expanded(repeats)
        if drop_pad:
            points = tuple(point for point in points if point.type != "pad")
        if layout.group_count is not None:
            fixed = {**fixed, layout.group_count: repeats}
        self.model_id = model_id
        self.measures = measures
        self.commands = commands
        self.registers = 2 + sum(point.registers for point in points)
        self._points = points
        self._struct = struct.Struct(">HH" + "".join(point.code for point in points))
        self._raw: list[int | float | bytes] = [model_id, self.registers - 2, *(point.missing for point in points)]
        self._scale_index = {point.name: index for index, point in enumerate(points, 2) if point.type == "sunssf"}
        self._factors: dict[str, float] = {}
        self._slots = {point.name: self._slot(index, point) for index, point in enumerate(points, 2)}
        self._held: dict[str, Value] = {}
        self._touches: dict[tuple[int, int], _Touched] = {}
        self._implemented: set[str] = set()
        self._offset_of = _offsets(points)
        self._live = live
        self._autorange = autorange
        self._set_fixed(fixed)
        if live is not None:
            self._implemented.update(live())

    def encode(self, image: bytearray, offset: int, *, blank: bool) -> None:
        """Write ID, L and every point into the image."""
        if self._live is not None:
            values = self._live()
            if blank:
                values = dict.fromkeys(values)
            elif self._autorange:
                self._choose_scales(values)
            self._set_live(values)
        self._struct.pack_into(image, offset, *self._raw)

    def needs_image(self, first: int, count: int) -> bool:
        """Where a write covers a point in part only, the rest of the point stays as it is."""
        touched = self._touched(first, count)
        return touched.first != first or touched.registers != count

    def write(self, first: int, data: bytes, image: bytearray, offset: int) -> None:
        """Decode the points that the write touches, command them, and keep them."""
        touched = self._touched(first, len(data) // 2)
        if not touched.writable:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        if len(data) != 2 * touched.registers:
            raw = bytearray(image[offset + 2 * touched.first : offset + 2 * (touched.first + touched.registers)])
            raw[2 * (first - touched.first) : 2 * (first - touched.first) + len(data)] = data
            data = bytes(raw)
        numbers = touched.layout.unpack(data)
        values = {point.name: self._decoded(point, number) for point, number in zip(touched.points, numbers, strict=True)}
        if self.commands is not None:
            self.commands(values)
        for point, number in zip(touched.points, numbers, strict=True):
            self._raw[self._slots[point.name][0]] = number
        self._held.update(values)

    def values(self) -> dict[str, Value]:
        """What every implemented point means now, in the units of the SunSpec definition and before any rounding."""
        return {**self._held, **(self._live() if self._live is not None else {})}

    def _touched(self, first: int, count: int) -> "_Touched":
        found = self._touches.get((first, count))
        if found is None:
            found = self._touches[first, count] = self._find_touched(first, first + count)
        return found

    def _find_touched(self, first: int, end: int) -> "_Touched":
        points = [point for point in self._points if self._offset_of[point.name] < end and self._end_of(point) > first]
        begin = self._offset_of[points[0].name] if points else first
        inside = bool(points) and begin <= first and self._end_of(points[-1]) >= end
        return _Touched(
            points=points,
            first=begin,
            registers=sum(point.registers for point in points),
            layout=struct.Struct(">" + "".join(point.code for point in points)),
            writable=inside and all(point.writable and point.name in self._implemented for point in points),
        )

    def _slot(self, index: int, point: PointLayout) -> tuple[int, str | None, int, int, int | float | bytes, str]:
        low, high = (0, 0) if point.type == "string" else (TYPES[point.type].low, TYPES[point.type].high)
        return index, point.scale, low, high, point.missing, point.type

    def _set_fixed(self, fixed: Mapping[str, Value]) -> None:
        scales = {name: value for name, value in fixed.items() if name in self._scale_index}
        for name, value in scales.items():
            assert isinstance(value, int), f"scale factor {name} of model {self.model_id} must be an integer, got {value!r}"
            self._raw[self._scale_index[name]] = value
            self._factors[name] = 10.0**-value
        others = {name: value for name, value in fixed.items() if name not in scales and not name.endswith("_SF")}
        self._implemented.update(others)
        self._held = others
        self._set_live(others)

    def _set_live(self, values: Mapping[str, Value]) -> None:
        raw, slots, factors = self._raw, self._slots, self._factors
        for name, value in values.items():
            index, scale, low, high, missing, kind = slots[name]
            if value is None:
                raw[index] = missing
            elif scale is not None:
                number = round(value * factors[scale])  # type: ignore[operator]
                raw[index] = low if number < low else high if number > high else number
            elif kind == "string":
                raw[index] = str(value).encode("utf-8")
            else:
                raw[index] = value  # type: ignore[assignment]

    def _choose_scales(self, values: Mapping[str, Value]) -> None:
        """The finest scale factor, not finer than FINEST_SCALE, that lets the largest value of each group fit."""
        needed: dict[str, int] = {}
        for name, value in values.items():
            _, scale, _, high, _, _ = self._slots[name]
            if scale is None or not value:
                continue
            exponent = math.ceil(math.log10(abs(float(value)) / high))
            needed[scale] = max(needed.get(scale, FINEST_SCALE), exponent)
        for scale, exponent in needed.items():
            self._raw[self._scale_index[scale]] = exponent
            self._factors[scale] = 10.0**-exponent

    def _end_of(self, point: PointLayout) -> int:
        return self._offset_of[point.name] + point.registers

    def _decoded(self, point: PointLayout, number: float) -> float:
        if number == point.missing or number != number:
            raise ModbusRefusal(ILLEGAL_VALUE)
        if point.scale is None:
            return number
        return number / self._factors[point.scale]


def sunspec_map(base: int, models: Sequence[Block]) -> tuple[int, list[Block]]:
    """The segment of a SunSpec map: the marker "SunS", the models in their order, the end model (0xFFFF, length 0)."""
    return base, [FixedBlock(b"SunS"), *models, FixedBlock(b"\xff\xff\x00\x00")]


def _offsets(points: Sequence[PointLayout]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    position = 2
    for point in points:
        offsets[point.name] = position
        position += point.registers
    return offsets
