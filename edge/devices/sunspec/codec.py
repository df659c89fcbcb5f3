"""A whole SunSpec model to named values and back: what `probe` shows and what the tests compare with other implementations.

The control cycle does not come through here; it reads a few points through `edge.devices.decode`.
"""

from collections.abc import Sequence

from edge.devices.decode import SCALES, Field, compile_block, encode_number
from edge.devices.sunspec.layout import Group, ModelLayout, Point
from edge.errors import DeviceGarbage

Value = float | int | str | None
Values = dict[str, "Value | list[Values] | Values"]


def decode_model(model: ModelLayout, registers: Sequence[int]) -> Values:
    """Every point of a model, scaled; `registers` begin with ID and L.

    A device may serve fewer registers than the model has (a Common Model of length 15, a controls model without its tail): what
    is not there is `None`. A repeating group becomes a list.
    """
    values = _decode_points(model.points, registers, 0, {}, registers)
    scales = {p.name: p for p in model.points if p.type == "sf"}
    offset = model.size
    for group in model.groups:
        repeats = 1 if group.count is None else _repeats(model, group, values, registers)
        members: list[Values] = []
        for _ in range(repeats):
            members.append(_decode_points(group.points, registers, offset, scales, registers))
            offset += group.size
        values[group.name] = members if group.count is not None else (members[0] if members else None)
    return values


def encode_point(model: ModelLayout, name: str, value: float, scale_power: int = 0) -> tuple[int, ...]:
    """The registers of a numeric point for a value in the unit of the point; `scale_power` is what its scale factor holds."""
    point = model.point(name)
    multiplier, divisor = SCALES[scale_power if point.scale is not None else 0]
    try:
        return encode_number(value * divisor / multiplier, point.type)
    except OverflowError as error:
        raise DeviceGarbage(f"model {model.id} {name}: {value} with scale factor {scale_power}: {error}") from error


def _repeats(model: ModelLayout, group: Group, values: Values, registers: Sequence[int]) -> int:
    count = values.get(group.count or "")
    room = max(0, len(registers) - model.size) // group.size
    return min(int(count), room) if isinstance(count, float | int) else room


def _decode_points(
    points: Sequence[Point], registers: Sequence[int], base: int, outer_scales: dict[str, Point], everything: Sequence[int]
) -> Values:
    scales = outer_scales or {p.name: p for p in points if p.type == "sf"}
    values: Values = {}
    fields: list[Field] = []
    for point in points:
        start = base + point.offset
        if point.type == "pad":
            continue
        values[point.name] = None
        if point.is_string:
            values[point.name] = decode_text(registers[start : start + point.size])
            continue
        if start + point.size > len(everything):
            continue
        scale_address: int | None = None
        if point.scale is not None:
            scale_address = scales[point.scale].offset
            if scale_address >= len(everything):
                continue
        fields.append(Field(name=point.name, address=start, type=point.type, scale_address=scale_address))
    if fields:
        decoded = compile_block(0, fields)(registers)
        for field, number in zip(fields, decoded, strict=True):
            values[field.name] = number
    return values


def decode_text(registers: Sequence[int]) -> str | None:
    """Text of two characters per register, ended by NUL; `None` when not implemented."""
    data = b"".join(register.to_bytes(2, "big") for register in registers)
    text = data.split(b"\x00", 1)[0].decode("utf-8", "replace").strip()
    return text or None
