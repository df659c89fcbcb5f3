"""Finding models where real devices have them.

The oddities are those of public issues: pysunspec2 #36, #89, #116 (exception behind the last model), #56 (silent base), sax_battery_ha
#128 (Common Model of length 15).
"""

import pytest
from edge_device_bank import AC_103, RATING_120, SUNS, Bank, model_registers, place, pv_103, pv_701, sunspec_bank

from edge.devices.sunspec.discovery import discover, read_model
from edge.devices.sunspec.fields import survey
from edge.errors import DeviceGarbage, DeviceRefused, DeviceTimeout


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_the_map_is_found_at_every_base(base: int) -> None:
    bank = sunspec_bank(model_registers(103, AC_103), base=base)
    device = await discover(bank, 1)
    assert device.base == base
    assert [(m.id, m.length) for m in device.models] == [(1, 65), (103, 50)]
    assert device.notes == ()


@pytest.mark.parametrize(("length", "notes"), [(65, 0), (66, 0), (15, 1)])
async def test_a_common_model_of_any_length_leads_to_the_next_model(length: int, notes: int) -> None:
    bank = sunspec_bank(model_registers(103, AC_103), common_length=length)
    found = await survey(bank, 1, (40000,))
    device = found.device
    assert device.find(103) is not None and device.find(103).address == 40004 + length  # type: ignore[union-attr]
    assert len(device.notes) == notes
    assert found.identity.startswith("Acme")


async def test_a_device_that_refuses_to_be_read_behind_its_last_model_is_complete() -> None:
    bank = pv_103()
    last = max(bank.registers)
    del bank.registers[last]
    device = await discover(bank, 1)
    assert [m.id for m in device.models] == [1, 103, 120, 121, 122, 123]
    assert device.notes == ()
    del bank.registers[last - 1]
    device = await discover(bank, 1)
    assert [m.id for m in device.models] == [1, 103, 120, 121, 122, 123]
    assert "no end marker" in device.notes[0]


async def test_nothing_is_read_behind_the_last_model_but_its_end_marker() -> None:
    bank = pv_103()
    await survey(bank, 1, (40000,))
    end = max(bank.registers) + 1
    assert all(address + count <= end for address, count in bank.reads)
    assert all(count <= 125 for _, count in bank.reads)


async def test_requests_begin_and_end_between_points() -> None:
    bank = pv_701()
    device = await discover(bank, 1)
    model = device.find(701)
    assert model is not None
    bank.reads.clear()
    registers = await read_model(bank, 1, model)
    assert len(registers) == 155
    cuts = {address - model.address for address, _ in bank.reads} | {a + c - model.address for a, c in bank.reads}
    import sunspec2.device

    starts = {p.offset for p in sunspec2.device.Model(701).points.values()} | {155}
    assert cuts <= starts


async def test_a_silent_base_is_a_wrong_base() -> None:
    bank = sunspec_bank(model_registers(103, AC_103), base=50000)
    read = bank.read_holding

    async def slow_below(unit: int, address: int, count: int) -> tuple[int, ...]:
        if address < 50000:
            raise DeviceTimeout("silent")
        return await read(unit, address, count)

    bank.read_holding = slow_below  # type: ignore[method-assign]
    assert (await discover(bank, 1)).base == 50000


async def test_a_device_without_a_map_says_what_was_found_instead() -> None:
    bank = Bank(dict.fromkeys(range(60000), 7))
    with pytest.raises(DeviceGarbage, match='expected "SunS" at one of the bases, found 40000: 0x0007 0x0007; 0'):
        await discover(bank, 1)
    with pytest.raises(DeviceGarbage, match="40000: exception 2"):
        await discover(Bank({}), 1)


async def test_a_device_that_never_answers_is_a_timeout_and_not_garbage() -> None:
    bank = pv_103()
    bank.silent = True
    with pytest.raises(DeviceTimeout):
        await discover(bank, 1)


@pytest.mark.parametrize(("header", "word"), [([0, 0], "breaks"), ([64999, 0], "breaks"), ([103, 60000], "beyond the address space")])
async def test_a_broken_chain_ends_the_scan_with_a_note(header: list[int], word: str) -> None:
    registers = [*SUNS, *model_registers(1, {}, length=65), *header, *[0] * 200]
    device = await discover(Bank(dict(enumerate(registers, 40000))), 1)
    assert word in device.notes[-1]


async def test_a_chain_that_never_ends_is_left() -> None:
    registers = SUNS + [900, 1, 0] * 4000
    device = await discover(Bank(dict(enumerate(registers, 40000))), 1)
    assert "stopped after 100 models" in device.notes[-1]


async def test_a_model_that_has_moved_is_noticed_when_it_is_read() -> None:
    bank = sunspec_bank(model_registers(103, AC_103), model_registers(120, RATING_120))
    device = await discover(bank, 1)
    model = device.find(120)
    assert model is not None
    bank.registers[place(bank, 120)] = 121
    with pytest.raises(DeviceGarbage, match="the device changed its map"):
        await read_model(bank, 1, model)


async def test_a_model_that_cannot_be_read_does_not_hide_the_others() -> None:
    bank = pv_103()
    start = place(bank, 120)
    read = bank.read_holding

    async def refusing(unit: int, address: int, count: int) -> tuple[int, ...]:
        if address == start and count > 2:
            raise DeviceRefused("exception 4", exception_code=4)
        return await read(unit, address, count)

    bank.read_holding = refusing  # type: ignore[method-assign]
    found = await survey(bank, 1, (40000,))
    assert found.value(120, "WRtg") is None and found.value(121, "WMax") == 5000
