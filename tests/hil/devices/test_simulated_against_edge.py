"""The drivers of the edge against the simulated devices: two readings of the same documents, written apart, must meet in the middle."""

from typing import Any

import pytest
from simulated_bench import battery, hybrid, meter, pv, run, served

from edge.devices.registry import DeviceConfig, ModbusSessions, open_device
from edge.values import DeviceKind, Setpoint
from hil.devices.device import Inputs, SimulatedDevice
from hil.devices.eastron import EastronSdm630
from hil.devices.ev_charger_maps import AlfenNg9xx
from hil.devices.memory import MemoryRegisterClient
from hil.devices.quirks import Quirks

THREE_PHASES = (231.0, 229.0, 230.0)


class Controlled:
    """A simulated device under a driver of the edge, in memory."""

    def __init__(self, device: SimulatedDevice, kind: DeviceKind, **options: Any) -> None:
        self.device = device
        config = DeviceConfig(name=device.name, kind=kind, host="127.0.0.1", port=1, unit=device.unit, **options)
        self.driver = open_device(config, lambda _: MemoryRegisterClient([device]))

    async def read(self) -> Any:
        return await self.driver.read(self.device.now_s)

    async def write(self, **fields: Any) -> Any:
        setpoint = Setpoint(name=self.device.name, kind=self.driver.kind, **fields)
        return await self.driver.write(setpoint, self.device.now_s)


QUIRKS = {
    "as usual": Quirks(),
    "with L = 66": Quirks(common_length=66),
    "at base 0": Quirks(base_address=0),
    "at base 50000": Quirks(base_address=50000),
    "with changing scale factors": Quirks(autorange=True),
    "that reads zeros past its end": Quirks(zeros_past_end=True),
}


@pytest.mark.parametrize("quirk", QUIRKS)
@pytest.mark.parametrize("der", [False, True])
async def test_the_edge_limits_a_pv_inverter(quirk: str, der: bool) -> None:
    device = pv(der=der, phases=3, quirks=QUIRKS[quirk])
    sun = Inputs(voltage_v=THREE_PHASES, available_w=4000.0)
    controlled = Controlled(device, DeviceKind.PV)
    run(device, 30.0, sun)
    reading = await controlled.read()
    assert reading.power_w == pytest.approx(-4000.0, abs=1.0)
    assert reading.voltage_v == pytest.approx(THREE_PHASES, abs=0.1)
    assert reading.rated_w == 5000.0
    await controlled.write(limit_w=1500.0)
    run(device, 30.0, sun)
    reading = await controlled.read()
    assert reading.power_w == pytest.approx(-1500.0, abs=1.0)
    assert reading.limit_w == pytest.approx(1500.0)
    await controlled.write(limit_w=0.0)
    run(device, 60.0, sun)
    assert (await controlled.read()).power_w == pytest.approx(0.0, abs=1.0)
    await controlled.write(limit_w=None)
    run(device, 60.0, sun)
    assert (await controlled.read()).power_w == pytest.approx(-4000.0, abs=1.0)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("power_w", [3000.0, -2200.0, 0.0])
async def test_the_edge_commands_a_battery(legacy: bool, power_w: float) -> None:
    device = battery(legacy=legacy, self_consumption=True)
    inputs = Inputs(voltage_v=(230.0,), net_import_w=900.0)
    controlled = Controlled(device, DeviceKind.BATTERY)
    run(device, 5.0, inputs)
    await controlled.read()
    await controlled.write(power_w=power_w)
    run(device, 30.0, inputs)
    reading = await controlled.read()
    assert device.power_w == pytest.approx(power_w, abs=2.0)
    assert reading.power_w == pytest.approx(power_w, abs=2.0)
    assert reading.soc_frac == pytest.approx(device.soc_frac, abs=1e-3)
    assert reading.capacity_wh == 10_000.0
    assert reading.max_charge_w == 4000.0


async def test_a_der_falls_back_to_what_the_edge_chose_when_the_edge_dies() -> None:
    solar, store = pv(der=True), battery()
    sun = Inputs(available_w=4000.0)
    first, second = Controlled(solar, DeviceKind.PV), Controlled(store, DeviceKind.BATTERY)
    for controlled in (first, second):
        await controlled.read()
    await first.write(limit_w=3000.0, revert_limit_w=500.0, revert_after_s=60.0)
    await second.write(power_w=2000.0, revert_power_w=-300.0, revert_after_s=60.0)
    run(solar, 50.0, sun)
    run(store, 50.0, sun)
    assert solar.power_w == pytest.approx(-3000.0, abs=1.0)
    assert store.power_w == pytest.approx(2000.0, abs=1.0)
    run(solar, 50.0, sun)
    run(store, 50.0, sun)
    assert solar.power_w == pytest.approx(-500.0, abs=1.0)
    assert store.power_w == pytest.approx(-300.0, abs=1.0)


async def test_the_edge_reads_a_hybrid_inverter_as_pv_and_battery() -> None:
    device = hybrid(phases=3)
    sun = Inputs(voltage_v=THREE_PHASES, available_w=3000.0)
    solar, store = Controlled(device, DeviceKind.PV), Controlled(device, DeviceKind.BATTERY)
    run(device, 10.0, sun)
    await solar.read()
    await store.read()
    await store.write(power_w=1200.0)
    run(device, 30.0, sun)
    await store.read()
    await store.write(power_w=1200.0)
    run(device, 30.0, sun)
    losses_w = 0.05 * 3000.0
    assert device.battery_power_w == pytest.approx(1200.0, abs=losses_w), "the driver reckons with powers at the DC ports"
    assert (await solar.read()).power_w == pytest.approx(-3000.0, abs=losses_w)
    assert (await store.read()).power_w == pytest.approx(1200.0, abs=losses_w)


@pytest.mark.parametrize("phases", [1, 3])
async def test_the_edge_reads_a_meter(phases: int) -> None:
    device = meter(phases=phases)
    inputs = Inputs(voltage_v=THREE_PHASES[:phases], phase_power_w=(900.0, -1400.0, 250.0)[:phases])
    run(device, 3600.0, inputs, dt_s=10.0)
    reading = await Controlled(device, DeviceKind.METER).read()
    assert reading.power_w == pytest.approx(sum(inputs.phase_power_w), abs=0.5)
    assert reading.energy_import_wh == pytest.approx(device.energy_in_wh, abs=1.0)
    assert reading.energy_export_wh == pytest.approx(device.energy_out_wh, abs=1.0)


async def test_the_edge_reads_a_meter_that_counts_the_other_way_once_it_is_told() -> None:
    device = meter(quirks=Quirks(export_positive=True))
    run(device, 10.0, Inputs(phase_power_w=(700.0,)))
    assert (await Controlled(device, DeviceKind.METER, meter_sign=-1).read()).power_w == pytest.approx(700.0)


async def test_the_edge_reads_an_eastron_meter_by_its_profile() -> None:
    device = EastronSdm630("meter")
    run(device, 3600.0, Inputs(voltage_v=THREE_PHASES, phase_power_w=(900.0, -400.0, 250.0)), dt_s=10.0)
    reading = await Controlled(device, DeviceKind.METER, family="profile", profile="eastron-sdm630").read()
    assert reading.power_w == pytest.approx(750.0)
    assert reading.voltage_v == pytest.approx(THREE_PHASES)
    assert reading.energy_import_wh == pytest.approx(device.energy_in_wh, rel=1e-5)


@pytest.mark.parametrize("phases", [1, 3])
async def test_the_edge_drives_an_alfen_socket_by_its_profile(phases: int) -> None:
    device = AlfenNg9xx("ev", phases=phases)
    plugged = Inputs(voltage_v=THREE_PHASES[:phases], plugged=True, requested_wh=30_000.0)
    controlled = Controlled(device, DeviceKind.EV_CHARGER, family="profile", profile="alfen-ng9xx")
    assert (await controlled.read()).connected is False
    run(device, 10.0, plugged)
    assert (await controlled.read()).connected is True
    await controlled.write(limit_w=10.0 * 230.0 * phases)
    for _ in range(5):
        run(device, 10.0, plugged)
        reading = await controlled.read()
        await controlled.write(limit_w=10.0 * 230.0 * phases)
    assert reading.power_w == pytest.approx(10.0 * 230.0 * phases, rel=0.02)
    assert reading.power_w == pytest.approx(device.power_w, rel=1e-6)
    await controlled.write(limit_w=0.0)
    run(device, 10.0, plugged)
    assert (await controlled.read()).power_w == 0.0


async def test_the_edge_controls_a_served_house_over_real_tcp() -> None:
    solar, store, grid = pv(unit=1), battery(unit=2), meter(unit=3)
    sun = Inputs(available_w=4000.0, phase_power_w=(-2500.0,))
    for device in (solar, store, grid):
        run(device, 10.0, sun)
    async with served(solar, store, grid, sessions=1) as endpoint:
        sessions = ModbusSessions()
        kinds = {solar: DeviceKind.PV, store: DeviceKind.BATTERY, grid: DeviceKind.METER}
        drivers = {
            device: open_device(
                DeviceConfig(name=device.name, kind=kind, host=endpoint.host, port=endpoint.port, unit=device.unit), sessions
            )
            for device, kind in kinds.items()
        }
        for device, driver in drivers.items():
            reading = await driver.read(device.now_s)
            assert reading.power_w == pytest.approx(device.power_w, abs=1.0)
        await drivers[solar].write(Setpoint(name="pv", kind=DeviceKind.PV, limit_w=1000.0), solar.now_s)
        await drivers[store].write(Setpoint(name="battery", kind=DeviceKind.BATTERY, power_w=1500.0), store.now_s)
        run(solar, 30.0, sun)
        run(store, 30.0, sun)
        assert solar.power_w == pytest.approx(-1000.0, abs=1.0)
        assert store.power_w == pytest.approx(1500.0, abs=1.0)
        for driver in drivers.values():
            await driver.close()
