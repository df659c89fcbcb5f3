"""The SunSpec codec against sunspec2's own, on random registers, and on a real device's answer."""

import math
import random
import struct

import pytest
import sunspec2.device
from hypothesis import given
from hypothesis import strategies as st

from edge.devices.decode import Field, compile_block, encode_number
from edge.devices.sunspec.codec import decode_model, decode_text, encode_point
from edge.devices.sunspec.layout import layouts
from edge.errors import DeviceGarbage

FIXED = sorted(set(layouts()) - {160, 714})
EXACT_BELOW = 2**53


def random_registers(model_id: int, rng: random.Random) -> list[int]:
    """Registers of a model: values of every kind, with not-implemented ones strewn in, and scale factors in their range."""
    layout = layouts()[model_id]
    registers: list[int] = []
    for point in [*layout.points, *(p for g in layout.groups for p in g.points)]:
        if point.type == "sf":
            power = rng.choice([*range(-10, 11), -0x8000])
            registers.append(power & 0xFFFF)
        elif point.type == "str":
            text = "".join(rng.choice("ABCxyz 019") for _ in range(rng.randint(0, 2 * point.size))).strip()
            data = text.encode().ljust(2 * point.size, b"\x00")
            registers += [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
        elif rng.random() < 0.15:
            registers += rng.choice([[0xFFFF] * point.size, [0x8000] + [0] * (point.size - 1), [0] * point.size])
        else:
            registers += [rng.randrange(0x10000) for _ in range(point.size)]
    registers[0], registers[1] = model_id, len(registers) - 2
    return registers


def other_values(model_id: int, registers: list[int]) -> dict[str, object]:
    data = b"".join(r.to_bytes(2, "big") for r in registers)
    model = sunspec2.device.Model(model_id, data=data)
    values: dict[str, object] = {name: (point, point.cvalue) for name, point in model.points.items()}
    for name, group in model.groups.items():
        values[name] = {key: (point, point.cvalue) for key, point in group.points.items()}
    return values


def agree(ours: object, point: object, theirs: object, scale: object, raw: object) -> bool:
    kind = point.pdef["type"]  # type: ignore[attr-defined]
    if kind == "pad":
        return True
    if ours is None:
        # We give no number where the scale factor is not implemented; sunspec2 leaves the number unscaled.
        return theirs is None or scale == "missing" or theirs == "" or (kind == "float32" and math.isnan(theirs))  # type: ignore[arg-type]
    if isinstance(ours, str):
        return ours == str(theirs).strip()
    if isinstance(raw, int) and raw >= EXACT_BELOW:
        return math.isclose(float(ours), float(theirs), rel_tol=1e-12)  # type: ignore[arg-type]
    return math.isclose(float(ours), float(theirs), rel_tol=1e-12, abs_tol=1e-15)  # type: ignore[arg-type]


@pytest.mark.parametrize("model_id", FIXED)
def test_random_registers_mean_the_same_to_sunspec2(model_id: int) -> None:
    rng = random.Random(model_id)
    layout = layouts()[model_id]
    for _ in range(60):
        registers = random_registers(model_id, rng)
        ours, theirs = decode_model(layout, registers), other_values(model_id, registers)

        def check(point: object, mine: dict[str, object], other: dict[str, object], all_ours: dict[str, object]) -> None:
            if point.type == "pad":  # type: ignore[attr-defined]
                return
            name = point.name  # type: ignore[attr-defined]
            scale = "missing" if point.scale is not None and all_ours.get(point.scale) is None else "there"  # type: ignore[attr-defined]
            their_point, their_value = other[name]  # type: ignore[misc]
            assert agree(mine[name], their_point, their_value, scale, their_point.value), (
                f"model {model_id} {name}: {mine[name]} and {their_value}"
            )

        for point in layout.points:
            check(point, ours, theirs, ours)  # type: ignore[arg-type]
        for group in layout.groups:
            for point in group.points:
                check(point, ours[group.name], theirs[group.name], ours)  # type: ignore[arg-type]


@pytest.mark.parametrize("model_id", FIXED)
def test_what_is_encoded_is_read_by_sunspec2(model_id: int) -> None:
    rng = random.Random(1000 + model_id)
    layout = layouts()[model_id]
    limits = {"u16": (0, 0xFFFE), "i16": (-0x7FFF, 0x7FFF), "e16": (0, 0xFFFE), "u32": (0, 0xFFFFFFFE), "i32": (-0x7FFFFFFF, 0x7FFFFFFF)}
    for point in layout.points:
        if point.type not in limits or point.offset < 2:
            continue
        power = rng.randint(-4, 4) if point.scale else 0
        raw = rng.randint(*limits[point.type])
        registers = [model_id, layout.size - 2] + [0] * (layout.size - 2)
        value = raw / 10**-power if power < 0 else raw * 10**power
        registers[point.offset : point.offset + point.size] = encode_point(layout, point.name, value, power)
        if point.scale:
            registers[layout.point(point.scale).offset] = power & 0xFFFF
        data = b"".join(r.to_bytes(2, "big") for r in registers)
        model = sunspec2.device.Model(model_id, data=data)
        assert model.points[point.name].value == raw


def test_a_value_that_does_not_fit_is_refused_with_its_place() -> None:
    with pytest.raises(DeviceGarbage, match="model 123 WMaxLimPct: 700"):
        encode_point(layouts()[123], "WMaxLimPct", 700.0, -2)


def test_repeating_groups_are_as_many_as_the_device_has() -> None:
    module = [1, *([0x4142] + [0] * 7), 500, 4000, 2000, 0, 100, 0, 7, 25, 4, 0, 0]
    registers = [160, 8 + 2 * len(module), 0xFFFE, 0xFFFF, 0, 0, 0, 0, 2, 0, *module, *module]
    values = decode_model(layouts()[160], registers)
    modules = values["module"]
    assert isinstance(modules, list) and len(modules) == 2
    assert modules[1]["DCA"] == 5.0 and modules[1]["DCV"] == 400.0 and modules[1]["IDStr"] == "AB"
    registers[8] = 9
    assert len(decode_model(layouts()[160], registers)["module"]) == 2, "a count beyond the length is not believed"  # type: ignore[arg-type]


SOLAREDGE_203 = """
00 66 00 2f 00 08 00 2e ff ff 5b 98 5b 98 5c d3 5a 6c 00 00 00 00 00 00 00 00 ff fe 13 87 ff fe ff a5 04 08 ff 85 fc 18 00 00 01 dc 04
1c 00 94 03 f8 00 00 fe 2d ff 31 ff af ff 4e 00 00 08 1c db 02 19 50 24 03 ff fe 01 44 84 02 01 5e 60 52 00 00 00 00 00 00 00 00 01 14
08 20 00 28 f5 e8 00 53 b6 22 00 b1 38 65 00 00
"""
"""The first 53 registers after ID and L of model 203 of a SolarEdge meter, from the trace in the public issue evcc-io/evcc#15445."""


def test_a_real_solaredge_meter_block_decodes_cleanly() -> None:
    body = bytes.fromhex(SOLAREDGE_203.replace("\n", " "))
    words = [int.from_bytes(body[i : i + 2], "big") for i in range(0, len(body), 2)]
    values = decode_model(layouts()[203], [203, 105, *words, *[0] * (105 - len(words))])
    assert values["W"] == -91 == values["WphA"] + values["WphB"] + values["WphC"]  # type: ignore[operator]
    assert values["Hz"] == 49.99 and values["PhVphA"] == 234.48 and values["A"] == 10.2
    assert values["TotWhExp"] == 0x0144_8402 and values["TotWhImp"] == 0x0114_0820
    power_factor = values["PF"]
    assert isinstance(power_factor, float)
    assert abs(power_factor / 100 - values["W"] / values["VA"]) > 0.01, "PF of this meter is not W/VA: it must not be used"  # type: ignore[operator]


@given(st.lists(st.integers(0, 0xFFFF), min_size=30, max_size=30), st.data())
def test_a_compiled_block_equals_one_field_at_a_time(registers: list[int], data: st.DataObject) -> None:
    kinds = st.sampled_from(["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "a32", "e16"])
    fields = [
        Field(
            name=str(i),
            address=100 + data.draw(st.integers(0, 26)),
            type=data.draw(kinds),
            scale_address=data.draw(st.none() | st.integers(100, 129)),
            factor=data.draw(st.sampled_from([1.0, -1.0, 0.01])),
            words_low_first=data.draw(st.booleans()),
        )
        for i in range(data.draw(st.integers(1, 8)))
    ]
    together = compile_block(100, fields)(registers)
    alone = [compile_block(100, [field])(registers)[0] for field in fields]
    assert together == alone


@given(st.integers(-0x80000000, 0x7FFFFFFF), st.booleans())
def test_a_wide_number_survives_either_word_order(number: int, low_first: bool) -> None:
    registers = encode_number(number, "i32", words_low_first=low_first)
    field = Field(name="x", address=0, type="i32", words_low_first=low_first)
    expected = None if number == -0x80000000 else number
    assert compile_block(0, [field])(registers) == [expected]


@pytest.mark.parametrize("code, kind", [("f", "f32"), ("d", "f64")])
@pytest.mark.parametrize("number, expected", [(math.inf, None), (-math.inf, None), (math.nan, None), (-2.5, -5.0), (2.0**99, 2.0**100)])
def test_a_float_that_is_no_number_is_none(code: str, kind: str, number: float, expected: float | None) -> None:
    data = struct.pack(f">{code}", number)
    assert compile_block(0, [Field(name="x", address=0, type=kind, factor=2.0)])(struct.unpack(f">{len(data) // 2}H", data)) == [expected]


def test_a_scale_factor_that_is_not_implemented_takes_the_value_with_it() -> None:
    field = Field(name="W", address=0, type="i16", scale_address=1)
    assert compile_block(0, [field])([1000, 0x8000]) == [None]
    assert compile_block(0, [field])([1000, 11]) == [None]
    assert compile_block(0, [field])([1000, 0xFFFF]) == [100.0]


def test_text_ends_at_its_first_zero() -> None:
    assert decode_text([0x4142, 0x4300, 0x5858]) == "ABC"
    assert decode_text([0, 0]) is None
