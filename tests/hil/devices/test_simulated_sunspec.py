"""Every simulated SunSpec device, read and written point for point by an independent client (pysunspec2 1.3.7) over real TCP.

Two known differences of that client are handled openly: it shows an accumulator of 0 as None, and it rounds 64 bit numbers above 2^53.
"""

import math
from typing import Any

import pytest
from simulated_bench import DEVICES, address_of, battery, meter, pv, run, served, with_sunspec_client

from hil.devices.device import Inputs
from hil.devices.layouts import sunspec_layout
from hil.devices.quirks import Quirks
from hil.devices.sunspec_device import SunSpecDevice

WRITES: dict[tuple[int, str], float] = {
    (1, "DA"): 7,
    (121, "WMax"): 4400.0,
    (123, "Conn"): 0,
    (123, "WMaxLimPct"): 63.5,
    (123, "WMaxLimPct_RvrtTms"): 300,
    (123, "WMaxLimPct_RmpTms"): 10,
    (123, "WMaxLim_Ena"): 1,
    (124, "WChaMax"): 3000.0,
    (124, "StorCtl_Mod"): 3,
    (124, "MinRsvPct"): 12.5,
    (124, "OutWRte"): -20.5,
    (124, "InWRte"): 20.5,
    (124, "InOutWRte_RvrtTms"): 600,
    (702, "WMax"): 4400.0,
    (703, "ES"): 0,
    (703, "ESDlyTms"): 120,
    (704, "WMaxLimPctEna"): 1,
    (704, "WMaxLimPct"): 41.25,
    (704, "WMaxLimPctRvrt"): 5.0,
    (704, "WMaxLimPctEnaRvrt"): 1,
    (704, "WMaxLimPctRvrtTms"): 90,
    (704, "WSetEna"): 1,
    (704, "WSetMod"): 0,
    (704, "WSet"): -2345,
    (704, "WSetRvrt"): 111,
    (704, "WSetPct"): -33.25,
    (704, "WSetPctRvrt"): 2.0,
    (704, "WSetEnaRvrt"): 1,
    (704, "WSetRvrtTms"): 45,
    (715, "ControllerHb"): 70_000,
    (802, "SoCRsvMin"): 15.0,
    (802, "SetOp"): 2,
    (802, "SetInvState"): 2,
}
"""What the client writes; any other writable point gets the value back that it has."""


@pytest.mark.parametrize("name", DEVICES)
async def test_an_independent_client_reads_every_point_as_it_is_meant(name: str) -> None:
    device = DEVICES[name]()
    assert isinstance(device, SunSpecDevice)
    run(device, 30.0)
    async with served(device) as endpoint:
        await with_sunspec_client(endpoint, 1, lambda client: _assert_equal(device, client))


@pytest.mark.parametrize("name", DEVICES)
async def test_an_independent_client_writes_every_writable_point(name: str) -> None:
    device = DEVICES[name]()
    assert isinstance(device, SunSpecDevice)
    run(device, 30.0)
    async with served(device) as endpoint:
        written = await with_sunspec_client(endpoint, 1, lambda client: _write_all(device, client))
    expected = {
        (model_id, point.name)
        for model_id in device.model_ids
        for point in sunspec_layout(model_id).points
        if point.writable and point.name in device.blocks[model_id].values()
    }
    assert written == expected


async def test_a_point_that_is_not_implemented_cannot_be_written() -> None:
    device = pv()
    async with served(device) as endpoint:

        def act(client: Any) -> None:
            point = client.models[123][0].points["VArMaxPct"]
            assert point.value is None
            point.value = 10
            with pytest.raises(Exception, match=r"[Ee]xception"):
                point.write()

        await with_sunspec_client(endpoint, 1, act)


async def test_measured_points_mean_what_sunspec_says() -> None:
    """Signs and units on the wire, named one by one: generation positive in 103 and 701, import positive in 203."""
    inverter, store, grid = pv(phases=3, unit=1), battery(unit=2, phases=3), meter(phases=3, unit=3)
    store.setpoint.impose(-1500.0)
    for device in (inverter, store, grid):
        run(device, 60.0)
    async with served(inverter, store, grid) as endpoint:

        def of(model_id: int) -> Any:
            return lambda client: {name: point.cvalue for name, point in client.models[model_id][0].points.items()}

        ac = await with_sunspec_client(endpoint, 1, of(103))
        der = await with_sunspec_client(endpoint, 2, of(701))
        cells = await with_sunspec_client(endpoint, 2, of(713))
        bank = await with_sunspec_client(endpoint, 2, of(802))
        house = await with_sunspec_client(endpoint, 3, of(203))
    assert ac["W"] == pytest.approx(3210, abs=1)
    assert ac["PhVphB"] == pytest.approx(229.9, abs=0.1)
    assert ac["St"] == 4
    assert ac["WH"] == pytest.approx(1 + 3210 * 60 / 3600, abs=2)
    assert der["W"] == pytest.approx(-1500, abs=1), "absorbing is negative in model 701"
    assert bank["W"] < 0, "charging is negative in model 802"
    assert cells["SoC"] == pytest.approx(100 * store.soc_frac, abs=0.01)
    assert cells["WHAvail"] == pytest.approx(store.energy_wh, abs=1)
    assert house["W"] == pytest.approx(750, abs=1)
    assert [house[f"Wph{phase}"] for phase in "ABC"] == [900, -400, 250]


async def test_a_meter_that_counts_the_other_way_says_so_with_its_sign_only() -> None:
    device = meter(quirks=Quirks(export_positive=True))
    run(device, 3600.0, Inputs(phase_power_w=(1000.0,)), dt_s=10.0)
    async with served(device) as endpoint:
        grid = await with_sunspec_client(
            endpoint, 1, lambda client: {name: point.cvalue for name, point in client.models[201][0].points.items()}
        )
    assert grid["W"] == -1000
    assert grid["TotWhImp"] == 1001


def test_scale_factors_change_at_run_time_where_the_device_does_so() -> None:
    device = pv(quirks=Quirks(autorange=True))
    block = device.blocks[101]
    seen = set()
    for available_w in (20.0, 2000.0, 4800.0):
        run(device, 30.0, Inputs(available_w=available_w))
        raw, scale = _power_registers(device)
        seen.add(scale)
        assert raw * 10.0**scale == pytest.approx(available_w, rel=1e-3)
    assert len(seen) == 3
    assert block.values()["W"] == pytest.approx(4800.0)


def _power_registers(device: SunSpecDevice) -> tuple[int, int]:
    raw, scale = device.read_registers(1, address_of(device, 101, "W"), 2)
    return raw, scale - 0x10000 if scale & 0x8000 else scale


def _assert_equal(device: SunSpecDevice, client: Any) -> None:
    assert [model.model_id for model in client.model_list] == list(device.model_ids)
    for model in client.model_list:
        assert not model.error_info
        meant = device.blocks[model.model_id].values()
        seen = _points(model)
        for name, point in seen.items():
            if point.pdef["type"] in ("sunssf", "pad", "count") or name in ("ID", "L"):
                continue
            expected = meant.pop(name, None)
            where = f"{model.model_id}.{name}"
            if expected is None:
                assert point.value is None, f"{where}: not implemented, read {point.value}"
            elif point.pdef["type"].startswith("acc") and expected == 0:
                assert point.value is None
            elif isinstance(expected, str):
                assert point.value == expected, where
            else:
                step = 10.0 ** (_scale(model, point) or 0)
                if point.pdef["type"] == "float32":
                    step = abs(expected) * 2.0**-22
                elif point.sf is None:
                    step = 0.0
                assert math.isclose(point.cvalue, expected, rel_tol=1e-12, abs_tol=0.51 * step), where
        assert meant == {name: value for name, value in meant.items() if name in ("N", "NPrt")}, f"{model.model_id}: not seen {meant}"


def _points(model: Any) -> dict[str, Any]:
    """All points of a model under the names that the simulated devices use for them."""
    found = dict(model.points)
    for name, groups in model.groups.items():
        if isinstance(groups, list):
            for index, group in enumerate(groups, 1):
                found.update({f"{index}.{point}": value for point, value in group.points.items()})
        else:
            found.update({f"{name}.{point}": value for point, value in groups.points.items()})
    return found


def _scale(model: Any, point: Any) -> int | None:
    return None if point.sf is None else model.points[point.sf].value


def _write_all(device: SunSpecDevice, client: Any) -> set[tuple[int, str]]:
    written = set()
    for model in client.model_list:
        for name, point in model.points.items():
            if point.pdef.get("access") != "RW" or point.value is None:
                continue
            value = WRITES.get((model.model_id, name), point.cvalue)
            point.cvalue = value
            point.write()
            model.read()
            seen = model.points[name].cvalue
            step = 10.0 ** (_scale(model, point) or 0)
            assert math.isclose(seen, value, rel_tol=1e-12, abs_tol=0.51 * step), f"{model.model_id}.{name}: {value} -> {seen}"
            meant = device.blocks[model.model_id].values()[name]
            assert math.isclose(float(meant), value, rel_tol=1e-12, abs_tol=0.51 * step), f"{model.model_id}.{name}"
            written.add((model.model_id, name))
    return written
